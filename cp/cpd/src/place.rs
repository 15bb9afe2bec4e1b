// SPDX-License-Identifier: GPL-2.0

//! The place in the file system where `cpd` listens.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cp_proto::{Listener, ProtoError};
use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;
use rustix::process::umask;
use thiserror::Error;

/// A socket that nobody but its owner may connect to. It is removed when this is dropped.
///
/// A lock on a file beside it (`cp.sock.lock`) says whether its `cpd` is alive: the kernel gives it up whatever way a
/// process ends, so that a socket without its lock is a stale one.
#[derive(Debug)]
pub struct Place {
    socket: PathBuf,
    lock: PathBuf,
    _locked: File,
}

/// Why `cpd` cannot listen there.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// One system, one `cpd`.
    #[error("another cpd is listening on {0}")]
    InUse(PathBuf),
    /// Something that is not ours to replace.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// The path has no directory.
    #[error("{0} is no path for a socket")]
    NoPath(PathBuf),
    /// A system call failed.
    #[error("cannot {what} {path}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {0}: {1}")]
    Socket(PathBuf, ProtoError),
}

impl Place {
    /// Listens at `path`. Its directory is made if there is none, for its owner only; a stale socket is replaced.
    ///
    /// Changes the process's umask for a moment: to be called while there is one thread.
    pub fn take(path: &Path) -> Result<(Self, Listener), PlaceError> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(PlaceError::NoPath(path.into()));
        };
        if !directory.as_os_str().is_empty() {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory);
            made.map_err(io_error("make the directory", directory))?;
        }
        let lock = path.with_file_name({
            let mut name = name.to_os_string();
            name.push(".lock");
            name
        });
        let locked = take_lock(&lock, path)?;
        // From here on `Drop` cleans up; what it removes is ours, since the lock is.
        let place = Self {
            socket: path.into(),
            lock,
            _locked: locked,
        };
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.file_type().is_socket() => {
                fs::remove_file(path).map_err(io_error("remove the stale socket", path))?;
            }
            Ok(_) => return Err(PlaceError::NotASocket(path.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("look at", path)(error)),
        }
        let before = umask(Mode::from_raw_mode(0o177));
        let listener = Listener::bind(path);
        umask(before);
        match listener {
            Ok(listener) => Ok((place, listener)),
            Err(error) => Err(PlaceError::Socket(path.into(), error)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.socket).is_ok_and(|metadata| metadata.file_type().is_socket())
        {
            let _ = fs::remove_file(&self.socket);
        }
        // Removed while it is locked; see `take_lock`.
        let _ = fs::remove_file(&self.lock);
    }
}

fn take_lock(lock: &Path, socket: &Path) -> Result<File, PlaceError> {
    loop {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(lock)
            .map_err(io_error("open", lock))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(PlaceError::InUse(socket.into())),
            Err(errno) => return Err(io_error("lock", lock)(errno.into())),
        }
        // Another cpd may have removed the file between our opening and locking it: then the lock is worth nothing.
        let ours = file.metadata().map_err(io_error("look at", lock))?;
        if fs::metadata(lock)
            .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
        {
            return Ok(file);
        }
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    move |error| PlaceError::Io {
        what,
        path: path.into(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    // One test, since taking a place changes the process's umask.
    #[test]
    fn a_place_is_private_taken_once_and_left_clean() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path().join("deep/er");
        let path = directory.join("cp.sock");
        let (place, listener) = Place::take(&path).unwrap();
        assert_eq!((mode(&directory), mode(&path)), (0o700, 0o600));
        assert!(matches!(Place::take(&path), Err(PlaceError::InUse(_))));

        // Left cleanly; then as if killed: the kernel has given up the lock, but the socket is still there.
        drop((place, listener));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        drop(Listener::bind(&path).unwrap());
        assert!(path.exists());

        let (place, _listener) = Place::take(&path).unwrap();
        drop(place);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);

        fs::write(&path, "precious").unwrap();
        assert!(matches!(Place::take(&path), Err(PlaceError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert!(matches!(
            Place::take(Path::new("/")),
            Err(PlaceError::NoPath(_))
        ));
    }
}
