//! Where the studio keeps its things, where it listens, and whom it lets in.
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::{App, Problem};

/// Bytes of randomness in the token.
const TOKEN_BYTES: usize = 32;

/// The studio's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Database, data sets, models and runs.
    pub dir: PathBuf,
    /// The address that the server listens on.
    pub address: SocketAddr,
    /// Folders whose contents may be used as data sets. Canonical.
    pub roots: Vec<PathBuf>,
    /// The program that trains: this one.
    pub program: PathBuf,
    /// Folders in which starting models and the sample data are looked for.
    pub assets: Vec<PathBuf>,
    /// Whether the program has the verb `export`.
    pub exports: bool,
    /// Jobs that run at once.
    pub at_once: usize,
    /// Who knows it may do everything.
    pub token: String,
}

/// A studio that listens.
pub struct Studio {
    /// What it is made of.
    pub app: App,
    /// Its socket.
    pub listener: tokio::net::TcpListener,
}

impl Config {
    /// Settings with a token of their own, kept in `dir` so that an open page survives a restart.
    ///
    /// # Errors
    /// `host` is not an address of this machine alone, or the folder cannot be written.
    pub fn new(dir: &Path, host: IpAddr, port: u16, program: PathBuf) -> Result<Config, Problem> {
        if !host.is_loopback() {
            return Err(Problem::invalid(format!("host={host} is not allowed: the studio listens on this machine only"))
                .hint("leave it at 127.0.0.1; from another machine, forward the port: ssh -L 8787:127.0.0.1:8787 HOST"));
        }
        std::fs::create_dir_all(dir).map_err(|e| Problem::path("cannot make the folder", dir, &e))?;
        let dir = dir.canonicalize().map_err(|e| Problem::path("cannot open the folder", dir, &e))?;
        let token = token(&dir.join("token"))?;
        let address = SocketAddr::new(host, port);
        Ok(Config {
            dir,
            address,
            roots: Vec::new(),
            program,
            assets: Vec::new(),
            exports: false,
            at_once: 1,
            token,
        })
    }

    /// The address at which a person opens the studio, with the token.
    pub fn link(&self) -> String {
        format!("http://{}/?token={}", self.address, self.token)
    }

    /// Lets data sets be taken from below `folder`.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn allow(&mut self, folder: &Path) -> Result<(), Problem> {
        let path = folder.canonicalize().map_err(|e| Problem::path("cannot open the folder", folder, &e))?;
        if !self.roots.contains(&path) {
            self.roots.push(path);
        }
        Ok(())
    }

    /// Whether `given` is the token. Digests are compared, so the time taken says nothing about the token itself.
    pub fn admits(&self, given: &str) -> bool {
        Sha256::digest(given) == Sha256::digest(&self.token)
    }

    /// The cookie's name: its own for each port, because browsers share cookies between ports.
    pub fn cookie(&self) -> String {
        format!("onsa_{}", self.address.port())
    }

    /// Takes the folder for this process alone.
    pub(crate) fn lock(&self) -> Result<std::fs::File, Problem> {
        let path = self.dir.join("lock");
        let file = std::fs::File::options().create(true).append(true).open(&path);
        let file = file.map_err(|e| Problem::path("cannot open", &path, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Problem::conflict(format!("another studio uses {}", self.dir.display()))
                    .hint("open that one, or choose another folder with dir=FOLDER"))
            }
            Err(std::fs::TryLockError::Error(e)) => Err(Problem::path("cannot lock", &path, &e)),
        }
    }

    /// Makes the folders.
    pub(crate) fn prepare(&self) -> Result<(), Problem> {
        for folder in ["datasets", "models", "jobs", "uploads", "cache"] {
            let path = self.dir.join(folder);
            std::fs::create_dir_all(&path).map_err(|e| Problem::path("cannot make the folder", &path, &e))?;
        }
        Ok(())
    }
}

impl Studio {
    /// Opens the folder and the socket. Port 0 takes a free one.
    ///
    /// # Errors
    /// The port is taken, another studio uses the folder, or the folder cannot be used.
    pub async fn bind(mut config: Config) -> Result<Studio, Problem> {
        let listener = tokio::net::TcpListener::bind(config.address).await.map_err(|e| {
            Problem::internal(format!("cannot listen on {}", config.address), &e).hint(
                "another program may use the port: choose one with port=NUMBER, or port=0 for any free one",
            )
        })?;
        config.address =
            listener.local_addr().map_err(|e| Problem::internal("the socket has no address", &e))?;
        Ok(Studio { app: App::open(config)?, listener })
    }
}

/// 127.0.0.1.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The token in `path`, made at the first start. Only its owner may read the file.
fn token(path: &Path) -> Result<String, Problem> {
    if let Ok(text) = std::fs::read_to_string(path) {
        let text = text.trim();
        if URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == TOKEN_BYTES) {
            return Ok(text.to_owned());
        }
    }
    let token = random_text(TOKEN_BYTES)?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(token.as_bytes()));
    written.map_err(|e| Problem::path("cannot write", path, &e))?;
    Ok(token)
}

/// `bytes` random bytes, as text for addresses and names.
///
/// # Errors
/// The system gives none.
pub fn random_text(bytes: usize) -> Result<String, Problem> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer).map_err(|e| Problem::internal("the system gives no random bytes", &e))?;
    Ok(URL_SAFE_NO_PAD.encode(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_beyond_this_machine_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for host in ["0.0.0.0", "192.168.1.4", "::"] {
            let error = Config::new(dir.path(), host.parse().unwrap(), 0, PathBuf::new()).unwrap_err();
            assert!(error.to_string().contains("this machine only"), "{error}");
        }
    }

    #[test]
    fn the_token_stays_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Config::new(dir.path(), LOOPBACK, 0, PathBuf::new()).unwrap();
        let again = Config::new(dir.path(), LOOPBACK, 0, PathBuf::new()).unwrap();
        assert_eq!(first.token, again.token);
        assert!(
            first.token.len() >= 43 && first.admits(&again.token) && !first.admits("") && !first.admits("x")
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(dir.path().join("token")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
