//! Memory for the blocks of one task, kept by each thread.

use std::cell::RefCell;

/// Elements of a cache line, to which every part is aligned.
const LINE: usize = 16;

thread_local! {
    static BUFFER: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `body` with buffers of the given lengths. Their contents are left over from earlier calls.
///
/// # Panics
///
/// If `body` calls this function.
pub(crate) fn with<const N: usize, R>(
    lengths: [usize; N],
    body: impl FnOnce([&mut [f32]; N]) -> R,
) -> R {
    let lengths = lengths.map(|length| length.next_multiple_of(LINE));
    let total = LINE + lengths.iter().sum::<usize>();
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < total {
            // Not `resize`, which would copy contents that nobody needs.
            *buffer = vec![0.0; total];
        }
        let skip = buffer.as_ptr().align_offset(LINE * size_of::<f32>());
        let mut rest = &mut buffer[skip..];
        body(lengths.map(|length| rest.split_off_mut(..length).expect("counted above")))
    })
}
