//! The seeds of a step's dropout on the device: one copy brings all of them.

use std::cell::RefCell;

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::zspace::metadata::Metadata;
use burn_cubecl::tensor::CubeTensor;

use super::lora::MOST_LAYERS;
use crate::cpu::random::seed_words;
use crate::seed::Drawn;

/// The seeds that come in one copy.
const TOGETHER: u64 = 256;
/// The first seeds of the next copy, so that those of one launch are in one.
const BEYOND: u64 = MOST_LAYERS as u64 - 1;
/// The copies that are kept: of a step with several streams, its last ones.
const KEPT: usize = 4;

/// Seeds of a stream from a number on.
struct Table {
    stream: u64,
    from: u64,
    words: CubeTensor,
}

thread_local! {
    static TABLES: RefCell<Vec<Table>> = const { RefCell::new(Vec::new()) };
}

/// The words of some seeds on a tensor's device, and where among them those of this seed are. Those of
/// the seeds that a launch's other layers draw after it follow.
pub(super) fn words(drawn: Drawn, like: &CubeTensor) -> (CubeTensor, u32) {
    let Drawn { stream, number } = drawn;
    let from = number / TOGETHER * TOGETHER;
    let at = 2 * (number - from) as u32;
    TABLES.with_borrow_mut(|tables| {
        let is_it = |table: &Table| {
            (table.stream, table.from) == (stream, from) && table.words.device == like.device
        };
        if let Some(table) = tables.iter().find(|table| is_it(table)) {
            return (table.words.clone(), at);
        }
        let numbers = from..from + TOGETHER + BEYOND;
        let seeds = numbers.map(|number| Drawn { stream, number }.seed());
        let words: Vec<u32> = seeds.flat_map(seed_words).collect();
        let length = words.len();
        let handle = like.client.create_from_slice(bytemuck::cast_slice(&words));
        let meta = Metadata::new(Shape::new([length]), [1]);
        let (client, device) = (like.client.clone(), like.device.clone());
        let words = CubeTensor::new(client, handle, meta, device, DType::U32);
        if tables.len() == KEPT {
            tables.remove(0);
        }
        let table = Table {
            stream,
            from,
            words: words.clone(),
        };
        tables.push(table);
        (words, at)
    })
}
