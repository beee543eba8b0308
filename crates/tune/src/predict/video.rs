//! Videos, through the `ffmpeg` that a machine has: a process of its own decodes and hands over frames through a pipe, so its
//! parsers of untrusted files do not run in this one. It is killed when the frames are no longer wanted.

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use onsa_intake::limits::{PICTURE_MEMORY_BYTES, VIDEO_FRAMES};
use serde_json::Value;

use super::ahead::{AHEAD, Next, Ready};
use super::{PredictError, View};
use crate::data::raster::Rgb8;

/// Endings of files that are taken for videos.
const ENDINGS: [&str; 14] =
    ["mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "wmv", "flv", "ogv", "3gp"];
/// The formats that ffmpeg may open: no playlists or scripts, which name other files.
const FORMATS: &str = "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg";
/// How often a wait for a frame looks whether to stop.
const PATIENCE: Duration = Duration::from_millis(100);
/// How much of what ffmpeg says is kept.
const SAID_BYTES: u64 = 4096;

/// Whether a file's name says that it is a video.
pub fn is_video_name(path: &Path) -> bool {
    path.extension().is_some_and(|e| ENDINGS.iter().any(|ending| e.eq_ignore_ascii_case(ending)))
}

/// Which frame of a video a result is of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// From 0, those that were left out counted too.
    pub index: u64,
    /// Its time from the start.
    pub seconds: f64,
}

/// A video file, looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Video {
    /// The file.
    pub path: PathBuf,
    /// Frames a second.
    pub rate: f64,
    /// How many frames it says it has, where it says so.
    pub frames: Option<u64>,
    /// Every so many frames one is looked at.
    pub stride: u64,
}

/// What went wrong with a video.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// ffmpeg is not installed.
    #[error("{} is a video, and `{program}`, which decodes videos, was not found", path.display())]
    NoFfmpeg {
        /// The video.
        path: PathBuf,
        /// The missing program.
        program: &'static str,
    },
    /// ffmpeg refuses it.
    #[error("{}: {reason}", path.display())]
    Refused {
        /// The video.
        path: PathBuf,
        /// What ffmpeg says.
        reason: String,
    },
}

impl VideoError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            VideoError::NoFfmpeg { .. } => Some(
                "install ffmpeg (Debian and Ubuntu: apt install ffmpeg; macOS: brew install ffmpeg), or give the frames as pictures",
            ),
            VideoError::Refused { .. } => None,
        }
    }
}

/// A process that does not outlive this value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The path as ffmpeg takes it: a file, whatever protocol or option its name looks like.
fn as_file(path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from("file:");
    text.push(path);
    text
}

fn refused(path: &Path, reason: impl Into<String>) -> VideoError {
    VideoError::Refused { path: path.to_owned(), reason: reason.into() }
}

fn start(command: &mut Command, program: &'static str, path: &Path) -> Result<Killed, VideoError> {
    let started = command.spawn();
    started.map(Killed).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => VideoError::NoFfmpeg { path: path.to_owned(), program },
        _ => refused(path, format!("{program} does not start: {error}")),
    })
}

/// The last line that a process said.
fn last_words(said: impl Read) -> String {
    let mut bytes = Vec::new();
    let mut said = said.take(SAID_BYTES);
    let _ = said.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("ffmpeg could not read it").trim().to_owned()
}

impl Video {
    /// Looks at a file with `ffprobe`.
    ///
    /// # Errors
    /// ffmpeg is missing, or finds no video in the file.
    pub fn open(path: &Path, stride: u64) -> Result<Video, VideoError> {
        let mut command = Command::new("ffprobe");
        command
            .args(["-v", "error", "-protocol_whitelist", "file", "-format_whitelist", FORMATS])
            .args(["-select_streams", "v:0", "-show_entries"])
            .arg("stream=avg_frame_rate,r_frame_rate,nb_frames,duration:format=duration")
            .args(["-of", "json", "-i"])
            .arg(as_file(path))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = start(&mut command, "ffprobe", path)?;
        let mut text = Vec::new();
        if let Some(out) = child.0.stdout.take() {
            let _ = out.take(1 << 20).read_to_end(&mut text);
        }
        let words = child.0.stderr.take().map(last_words).unwrap_or_default();
        let document: Value = serde_json::from_slice(&text).unwrap_or_default();
        let stream = &document["streams"][0];
        let rate = ["avg_frame_rate", "r_frame_rate"].iter().find_map(|key| rate(stream[*key].as_str()?));
        let Some(rate) = rate else { return Err(refused(path, words)) };
        let seconds = |of: &Value| of["duration"].as_str()?.parse::<f64>().ok();
        let counted = stream["nb_frames"].as_str().and_then(|n| n.parse().ok());
        let timed =
            || Some((seconds(stream).or_else(|| seconds(&document["format"]))? * rate).round() as u64);
        Ok(Video { path: path.to_owned(), rate, frames: counted.or_else(timed), stride: stride.max(1) })
    }

    /// About how many frames will be looked at, where that is known.
    pub fn looked_at(&self) -> Option<u64> {
        self.frames.map(|frames| frames.div_ceil(self.stride))
    }
}

/// `30000/1001`.
fn rate(text: &str) -> Option<f64> {
    let (over, under) = text.split_once('/')?;
    let rate = over.parse::<f64>().ok()? / under.parse::<f64>().ok()?;
    (rate.is_finite() && rate > 0.0 && rate <= 1000.0).then_some(rate)
}

/// Decodes a video, fits each frame in a thread of its own, and lets `take` have them in their order while it computes. The
/// process ends with this call, whatever the reason; where `stop` turns true there is no further frame.
///
/// # Errors
/// What `take` returns. What is wrong with the video is handed to it, after the frames that came.
pub fn frames<F: Send, E: From<PredictError>>(
    video: &Video,
    channels: usize,
    fit: impl Fn(&View) -> F + Sync,
    stop: &AtomicBool,
    take: impl FnOnce(Next<'_, F>) -> Result<(), E>,
) -> Result<(), E> {
    if channels != 3 {
        let reason = format!("the network takes pictures of {channels} channels, and a video has three");
        return Err(PredictError::Video(refused(&video.path, reason)).into());
    }
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-hide_banner", "-v", "error"])
        .args(["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS, "-i"])
        .arg(as_file(&video.path))
        .args(["-map", "0:v:0", "-an", "-sn", "-dn", "-r", &format!("{}", video.rate)])
        // Each picture says its own size: a video may change it, and may have to be turned upright.
        .args(["-f", "image2pipe", "-c:v", "ppm", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child =
        start(&mut command, "ffmpeg", &video.path).map_err(|error| E::from(PredictError::Video(error)))?;
    let (out, said) = (child.0.stdout.take(), child.0.stderr.take());
    let fit = &fit;
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            // A pipe that is missing reads as an empty one.
            let out: Box<dyn Read> =
                out.map_or_else(|| Box::new(std::io::empty()) as Box<dyn Read>, |o| Box::new(o));
            let mut pipe = BufReader::with_capacity(1 << 20, out);
            for index in 0.. {
                let ready = match picture(&mut pipe, index % video.stride == 0) {
                    Ok(None) => break,
                    Ok(Some(None)) => continue,
                    Ok(Some(Some(_))) if index / video.stride >= VIDEO_FRAMES => Err(refused(
                        &video.path,
                        format!(
                            "it has more than {VIDEO_FRAMES} frames to look at: cut it, or raise vid_stride"
                        ),
                    )),
                    Ok(Some(Some(image))) => {
                        let frame = Frame { index, seconds: index as f64 / video.rate };
                        let view = View::Rgb(Arc::new(image));
                        let fitted = fit(&view);
                        Ok(Ready { path: video.path.clone(), frame: Some(frame), view, fitted })
                    }
                    Err(reason) => Err(refused(&video.path, reason)),
                };
                let failed = ready.is_err();
                if sender.send(ready).is_err() || failed {
                    return;
                }
            }
        });
        // Killed before the thread is waited for: it may be reading from a pipe into which nothing comes.
        let mut child = child;
        let (mut said, mut seen) = (said, false);
        let taken = take(&mut || {
            loop {
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                match receiver.recv_timeout(PATIENCE) {
                    Ok(ready) => {
                        seen = true;
                        return Some(ready.map_err(PredictError::Video));
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            let status = child.0.wait();
            let words = said.take().map(last_words);
            let ended_well = status.is_ok_and(|status| status.success()) && seen;
            // Said once: a second call finds nothing more to say.
            words.filter(|_| !ended_well).map(|words| Err(PredictError::Video(refused(&video.path, words))))
        });
        drop(receiver);
        drop(child);
        taken
    })
}

/// One picture of the pipe; none at its end. With `wanted` false its pixels are passed over.
fn picture(pipe: &mut impl Read, wanted: bool) -> Result<Option<Option<Rgb8>>, String> {
    let broken = |error: std::io::Error| format!("a frame broke off: {error}");
    let mut magic = [0; 2];
    match pipe.read(&mut magic[..1]).map_err(broken)? {
        0 => return Ok(None),
        _ => pipe.read_exact(&mut magic[1..]).map_err(broken)?,
    }
    if &magic != b"P6" {
        return Err("ffmpeg gave something else than pictures".into());
    }
    let mut number = || -> Result<usize, String> {
        let (mut value, mut digits) = (0usize, 0);
        loop {
            let mut byte = [0];
            pipe.read_exact(&mut byte).map_err(broken)?;
            match byte[0] {
                digit @ b'0'..=b'9' if digits < 9 => {
                    value = value * 10 + usize::from(digit - b'0');
                    digits += 1;
                }
                b' ' | b'\n' if digits > 0 => return Ok(value),
                b' ' | b'\n' => {}
                _ => return Err("ffmpeg gave a picture without its size".into()),
            }
        }
    };
    let (width, height, most) = (number()?, number()?, number()?);
    let bytes = width.checked_mul(height).and_then(|n| n.checked_mul(3)).filter(|n| *n > 0);
    let bytes = bytes.filter(|n| *n as u64 <= PICTURE_MEMORY_BYTES && most == 255);
    let bytes = bytes.ok_or_else(|| format!("frames of {width} x {height} pixels are too large"))?;
    if !wanted {
        let passed = std::io::copy(&mut pipe.take(bytes as u64), &mut std::io::sink()).map_err(broken)?;
        return if passed == bytes as u64 { Ok(Some(None)) } else { Err("a frame broke off".into()) };
    }
    let mut data = vec![0; bytes];
    pipe.read_exact(&mut data).map_err(broken)?;
    Ok(Some(Rgb8::new(width, height, data)))
}

/// A video in the making: frames in, an MP4 file out. Where [`Recording::finish`] is not reached, nothing is left.
pub struct Recording {
    child: Option<Killed>,
    pipe: Option<ChildStdin>,
    size: (usize, usize),
    scratch: PathBuf,
    path: PathBuf,
}

impl Recording {
    /// Starts ffmpeg for frames of `size` (width, height), `rate` a second.
    ///
    /// # Errors
    /// It is missing or does not start.
    pub fn start(path: &Path, size: (usize, usize), rate: f64) -> Result<Recording, VideoError> {
        let mut scratch = path.as_os_str().to_owned();
        scratch.push(".part");
        let scratch = PathBuf::from(scratch);
        let mut command = Command::new("ffmpeg");
        command
            .args(["-nostdin", "-hide_banner", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"])
            .args(["-s", &format!("{}x{}", size.0, size.1), "-r", &format!("{rate}"), "-i", "pipe:0"])
            // What players expect: even sides, colour at half the resolution.
            .args(["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-f", "mp4"])
            .arg(as_file(&scratch))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = start(&mut command, "ffmpeg", path)?;
        let pipe = child.0.stdin.take();
        Ok(Recording { child: Some(child), pipe, size, scratch, path: path.to_owned() })
    }

    fn failed(&mut self, otherwise: &str) -> VideoError {
        self.pipe = None;
        let said = self.child.as_mut().and_then(|child| child.0.stderr.take()).map(last_words);
        refused(&self.path, said.unwrap_or_else(|| otherwise.to_owned()))
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// Another size than the first; ffmpeg ended.
    pub fn add(&mut self, image: &Rgb8) -> Result<(), VideoError> {
        if (image.width, image.height) != self.size {
            let (w, h) = self.size;
            let reason = format!(
                "its frames change from {w} x {h} to {} x {} pixels: give save=false",
                image.width, image.height
            );
            return Err(refused(&self.path, reason));
        }
        let written = match &mut self.pipe {
            Some(pipe) => pipe.write_all(&image.data),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|error| self.failed(&error.to_string()))
    }

    /// Ends the file and puts it in its place.
    ///
    /// # Errors
    /// ffmpeg or the disk refuses.
    pub fn finish(mut self) -> Result<(), VideoError> {
        self.pipe = None;
        let status = self.child.as_mut().map(|child| child.0.wait());
        if !matches!(status, Some(Ok(status)) if status.success()) {
            return Err(self.failed("ffmpeg could not write it"));
        }
        let synced = std::fs::File::open(&self.scratch).and_then(|file| file.sync_all());
        let placed = synced.and_then(|()| std::fs::rename(&self.scratch, &self.path));
        placed.map_err(|error| refused(&self.path, error.to_string()))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.pipe = None;
        self.child = None;
        // After `finish` it is no longer there.
        let _ = std::fs::remove_file(&self.scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_follow_one_another_in_a_pipe() {
        let mut bytes = b"P6\n2 1\n255\nabcdef".to_vec();
        bytes.extend(b"P6\n1 1\n255\nghiP6\n1 1\n255\njkl");
        let mut pipe = &bytes[..];
        let first = picture(&mut pipe, true).unwrap().unwrap().unwrap();
        assert_eq!((first.width, first.height, &first.data[..]), (2, 1, &b"abcdef"[..]));
        assert!(picture(&mut pipe, false).unwrap().unwrap().is_none());
        assert_eq!(picture(&mut pipe, true).unwrap().unwrap().unwrap().data, b"jkl");
        assert!(picture(&mut pipe, true).unwrap().is_none());
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        for bytes in [
            &b"P5\n1 1\n255\na"[..],
            b"P6\n1 1\n255\nab",
            b"P6\n99999 99999\n255\n",
            b"P6\nx",
            b"P",
            b"P6\n0 1\n255\n",
        ] {
            let mut pipe = bytes;
            assert!(picture(&mut pipe, true).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn rates_are_fractions() {
        assert!((rate("30000/1001").unwrap() - 29.97).abs() < 0.001);
        for text in ["0/0", "5/0", "-1/1", "2000/1", "x", "1"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
