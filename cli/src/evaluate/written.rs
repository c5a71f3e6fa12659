//! The files that an evaluation writes.

use std::ops::Range;
use std::path::{Path, PathBuf};

use xent::Loss;

use super::Files;
use super::page::Page;
use crate::args::EvaluateArgs;
use crate::failure::Failure;
use crate::files::{FileError, NpyWriter, WholeFile};
use crate::report::Facts;

/// The files that are written, as far as they were asked for.
pub(super) struct Written {
    losses: Option<NpyWriter>,
    logsumexp: Option<NpyWriter>,
    gradient: Option<NpyWriter>,
    page: Option<Page>,
}

impl Written {
    pub(super) fn create(args: &EvaluateArgs, files: &Files) -> Result<Self, Failure> {
        let paths = [&args.losses, &args.logsumexp, &args.gradient, &args.report];
        let places = paths.map(|path| path.as_deref().map(place));
        for (i, path) in paths.iter().enumerate() {
            if let Some(path) = path
                && places[..i].contains(&places[i])
            {
                return Err(FileError::new(path.display(), "two outputs of this run have this name").into());
            }
        }
        paths.into_iter().flatten().try_for_each(|path| files.check_output(path))?;
        let create =
            |path: &Option<PathBuf>, shape: &[usize]| path.as_deref().map(|path| NpyWriter::create(path, shape)).transpose();
        Ok(Self {
            losses: create(&args.losses, &files.inputs.row_shape)?,
            logsumexp: create(&args.logsumexp, &files.inputs.row_shape)?,
            gradient: create(&args.gradient, files.inputs.predictions.shape())?,
            page: args.report.as_deref().map(Page::create).transpose()?,
        })
    }

    pub(super) fn write(&mut self, files: &Files, range: Range<usize>, rows: xent::Rows<'_>) -> Result<(), FileError> {
        if let Some(writer) = &mut self.losses {
            writer.write(rows.losses)?;
        }
        if let Some(writer) = &mut self.logsumexp {
            writer.write(rows.logsumexp)?;
        }
        if let Some(page) = &mut self.page {
            page.add(range.start, rows.losses);
        }
        if let Some(writer) = &mut self.gradient {
            writer.write_rows(files.inputs.axis, range, rows.gradient)?;
        }
        Ok(())
    }

    /// Completes all of them before the first has its name.
    pub(super) fn finish(self, facts: &Facts<'_>, files: &Files, loss: &Loss) -> Result<(), Failure> {
        let mut writers: Vec<_> = [self.losses, self.logsumexp, self.gradient].into_iter().flatten().collect();
        writers.iter_mut().try_for_each(NpyWriter::flush)?;
        let page = self.page.map(|page| page.fill(facts, files, loss)).transpose()?;
        writers.into_iter().try_for_each(NpyWriter::finish)?;
        page.map(WholeFile::keep).transpose()?;
        Ok(())
    }
}

/// One name for each file that does not exist yet: its folder may have several.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}
