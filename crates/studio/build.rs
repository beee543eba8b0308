//! Builds the web application with Node where it is there, and writes the table of its files.
//!
//! Without Node, or where its packages cannot be had, the program is built all the same and says so on its page;
//! `ONSA_WEB=required` makes that an error, `ONSA_WEB=off` leaves the application out.
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let web = Path::new("web");
    for path in ["src", "index.html", "package.json", "package-lock.json", "vite.config.ts"] {
        println!("cargo::rerun-if-changed=web/{path}");
    }
    println!("cargo::rerun-if-env-changed=ONSA_WEB");
    let wish = env::var("ONSA_WEB").unwrap_or_default();
    let files = if wish == "off" { Err("ONSA_WEB=off".into()) } else { build(web, &out.join("web")) };
    let files = match files {
        Ok(files) => files,
        Err(why) if wish == "required" => {
            println!("cargo::error=the web application cannot be built: {why}");
            return;
        }
        Err(why) => {
            println!("cargo::warning=the studio is built without its web application: {why}");
            Vec::new()
        }
    };
    let mut table = String::from("static FILES: &[(&str, &[u8])] = &[\n");
    for (name, path) in files {
        writeln!(table, "    ({name:?}, include_bytes!({path:?})),").expect("a String takes all text");
    }
    table.push_str("];\n");
    fs::write(out.join("web.rs"), table).expect("OUT_DIR can be written");
}

/// Builds the application into `to` and lists its files: name with `/`, path.
fn build(web: &Path, to: &Path) -> Result<Vec<(String, PathBuf)>, String> {
    let version = run(Command::new("node").arg("--version")).map_err(|_| "Node.js is not installed")?;
    let major: u32 =
        version.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    if major < 20 {
        return Err(format!("Node.js {version} is too old: 20 or later is needed"));
    }
    let lock = web.join("package-lock.json");
    let installed = web.join("node_modules/.package-lock.json");
    let time = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    if time(&installed).is_none_or(|installed| time(&lock).is_some_and(|lock| lock > installed)) {
        // Nothing that comes with the packages runs here: they need no scripts.
        run(Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(web))?;
    }
    let _ = fs::remove_dir_all(to);
    run(Command::new("node")
        .args(["node_modules/vite/bin/vite.js", "build", "--outDir"])
        .arg(to)
        .current_dir(web))?;
    let mut files = Vec::new();
    list(to, String::new(), &mut files).map_err(|e| e.to_string())?;
    files.sort();
    Ok(files)
}

fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} failed: {}", text.trim().lines().take(6).collect::<Vec<_>>().join(" | ")))
}

fn list(folder: &Path, prefix: String, files: &mut Vec<(String, PathBuf)>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            list(&entry.path(), format!("{name}/"), files)?;
        } else {
            files.push((name, entry.path()));
        }
    }
    Ok(())
}
