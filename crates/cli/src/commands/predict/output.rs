//! The destination of the lines: the terminal, or a file that is complete or absent.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::output::{counted, emit, say};
use crate::output_file::OutputFile;

/// The destination of the lines.
pub struct Output {
    file: Option<(OutputFile, BufWriter<File>)>,
    rows: usize,
}

impl Output {
    /// A file that will become `output`, or standard output.
    pub fn new(output: Option<&Path>) -> Result<Self> {
        let open = |output: &Path| -> Result<_> {
            let place = OutputFile::beside(output)?;
            let file = place.create()?;
            Ok((place, BufWriter::new(file)))
        };
        let file = output.map(open).transpose()?;
        Ok(Self { file, rows: 0 })
    }

    /// Writes lines. Returns false if nobody reads them any more.
    pub fn write(&mut self, lines: &[String]) -> Result<bool> {
        self.rows += lines.len();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        match &mut self.file {
            None => emit(&text),
            Some((place, file)) => {
                let written = file.write_all(text.as_bytes());
                written.with_context(|| format!("cannot write {}", place.output().display()))?;
                Ok(true)
            }
        }
    }

    /// Renames the file to its destination.
    pub fn finish(self) -> Result<()> {
        let Some((place, file)) = self.file else {
            return Ok(());
        };
        let flushed = file.into_inner().map_err(|error| error.into_error());
        let flushed = flushed.and_then(|file| place.sync(&file));
        flushed.with_context(|| format!("cannot write {}", place.output().display()))?;
        let output = place.keep()?;
        say(format!(
            "{}: {}",
            output.display(),
            counted(self.rows, "row")
        ))
    }
}
