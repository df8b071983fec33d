//! The progress bar of a download.

use std::cell::Cell;
use std::rc::Rc;

use hf_hub::api::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar (drawn only on a terminal) that remembers the expected size of the file.
pub(super) struct Bar {
    bar: ProgressBar,
    size: Rc<Cell<u64>>,
}

impl Bar {
    pub fn new(size: &Rc<Cell<u64>>) -> Self {
        let template =
            "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta_precise} left";
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::new(0);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self {
            bar,
            size: size.clone(),
        }
    }
}

impl Progress for Bar {
    fn init(&mut self, size: usize, filename: &str) {
        self.size.set(size as u64);
        self.bar.set_length(size as u64);
        self.bar.set_message(filename.to_string());
    }

    fn update(&mut self, size: usize) {
        self.bar.inc(size as u64);
    }

    fn finish(&mut self) {
        self.bar.finish();
    }
}
