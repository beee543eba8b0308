//! Classes that cannot be added.

use std::path::PathBuf;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The model is a bare architecture.
    #[error("add_classes keeps the classes of a trained model, and this one has no weights")]
    NoWeights,
    /// The model tells classes in branches, and one head is to have them all.
    #[error("the model tells some classes in branches of their own, which one head cannot take over")]
    HasBranches,
    /// The checkpoint does not name its classes.
    #[error("the model file does not name its {classes} classes, so the data's cannot be matched with them")]
    Unnamed {
        /// How many it has.
        classes: usize,
    },
    /// Two classes of the model have one name.
    #[error("two classes of the model are called {name}: which of them the data mean cannot be told")]
    SameName {
        /// The name.
        name: String,
    },
    /// The model has all classes of the data.
    #[error("the model has every class of the data already ({}): there is none to add", classes.join(", "))]
    NothingNew {
        /// The data's classes.
        classes: Vec<String>,
    },
    /// A path that does not exist.
    #[error("{argument}={}: there is nothing at this path", path.display())]
    NotThere {
        /// The argument.
        argument: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// Old data label classes that neither model nor new data have.
    #[error(
        "{argument}={}: its labels have classes that neither the model nor the new data have: {}",
        path.display(), classes.join(", ")
    )]
    OtherClasses {
        /// The argument.
        argument: &'static str,
        /// The data set.
        path: PathBuf,
        /// These classes.
        classes: Vec<String>,
    },
    /// Old data without any old class.
    #[error("{argument}={}: none of its classes is one of the model's own", path.display())]
    NoOldClass {
        /// The argument.
        argument: &'static str,
        /// The data set.
        path: PathBuf,
    },
    /// A folder without images.
    #[error("{argument}={}: neither a data set nor a folder with images", path.display())]
    NoImages {
        /// The argument.
        argument: &'static str,
        /// The folder.
        path: PathBuf,
    },
    /// The starting weights of a run that is continued are others now.
    #[error("{} is not the file that the run began with", path.display())]
    StartChanged {
        /// The model file.
        path: PathBuf,
    },
}

impl AddError {
    /// What to do about it, where the message does not already say.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            AddError::NoWeights => "give the path of a checkpoint, such as model=yolo11n.pt".into(),
            AddError::HasBranches => "give add_classes=true: it adds one more branch".into(),
            AddError::Unnamed { .. } | AddError::SameName { .. } => {
                "`onsa inspect FILE` shows a model's class names; use a file that has them, such as the original .pt".into()
            }
            AddError::NothingNew { .. } => "leave add_classes out to fine-tune these classes".into(),
            AddError::NotThere { argument, .. } | AddError::NoImages { argument, .. } => {
                format!("give {argument}= a data.yaml, another data set, or a folder of images")
            }
            AddError::OtherClasses { .. } | AddError::NoOldClass { .. } => {
                "classes are matched by name: compare them with those that `onsa inspect` shows of the model".into()
            }
            AddError::StartChanged { .. } => {
                "the starting model teaches the run's old classes: put the file back, or start a new run".into()
            }
        })
    }
}
