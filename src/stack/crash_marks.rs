//! Marks for tests that kill the process: a file whose first bytes always name the last point that
//! was passed (see [`points`]), so that the killer can tell where a kill fell.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use crate::rt::{points, tokio_rt::PointHook};

/// Bytes of a mark: the name, padded with blanks.
pub const WIDTH: usize = 16;

/// Writes marks.
#[derive(Clone, Debug)]
pub struct CrashMarks(Arc<File>);

impl CrashMarks {
    /// Marks in the file `path`, of which the first says that the process has just started.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let marks = Self(Arc::new(file));
        marks.write(points::RECOVERY);
        Ok(marks)
    }

    /// Puts `name` in front.
    pub fn write(&self, name: &str) {
        let mut mark = [b' '; WIDTH];
        let length = name.len().min(WIDTH);
        mark[..length].copy_from_slice(&name.as_bytes()[..length]);
        // One small write is atomic for whoever reads after a kill; a failed one loses a statistic.
        drop(self.0.write_at(&mark, 0));
    }

    /// What the runtime calls at every point.
    #[must_use]
    pub fn hook(&self) -> PointHook {
        let marks = self.clone();
        Arc::new(move |name| marks.write(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_the_last_point_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("marks");
        let marks = CrashMarks::open(&path).unwrap();
        let read = || std::fs::read_to_string(&path).unwrap();
        assert_eq!(read().trim_end(), "recovery");
        marks.hook()(points::COMMIT);
        assert_eq!(read(), format!("{:WIDTH$}", "commit"));
        marks.hook()(points::ACK);
        assert_eq!(read(), format!("{:WIDTH$}", "ack"));
    }
}
