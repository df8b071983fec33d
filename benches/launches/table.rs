//! The counts as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::marks::Step;

/// The table of a model's step, counted as a `whole` and with its parts `apart`.
pub fn of(name: &str, whole: &Step, apart: &Step, by_block: f64) -> String {
    let all = whole.whole();
    let parts = apart.parts.each_ref();
    let mut kinds: Vec<&String> = {
        let parts = parts.iter().flat_map(|part| part.launches.kinds.keys());
        let kinds: BTreeSet<_> = all.launches.kinds.keys().chain(parts).collect();
        kinds.into_iter().collect()
    };
    let count = |kind: &String| all.launches.kinds.get(kind).copied().unwrap_or(0);
    kinds.sort_by_key(|kind| std::cmp::Reverse(count(kind)));
    let mut text = format!(
        "## {name}\n\n{} tokens, 4 blocks; a block is {by_block} launches.\n\n\
         | a step | whole | forward | backward | optimizer |\n| --- | ---: | ---: | ---: | ---: |\n",
        whole.tokens
    );
    let mut row = |name: &str, whole: usize, parts: [usize; 3]| {
        let [forward, backward, optimizer] = parts;
        let _ = writeln!(
            text,
            "| {name} | {whole} | {forward} | {backward} | {optimizer} |"
        );
    };
    for kind in kinds {
        let of_part = parts.map(|part| part.launches.kinds.get(kind).copied().unwrap_or(0));
        row(kind, count(kind), of_part);
    }
    let [whole_copies, of_parts] = [all.transfers, apart.whole().transfers];
    let copies = parts.map(|part| part.transfers);
    row(
        "**launches**",
        all.launches.total(),
        parts.map(|part| part.launches.total()),
    );
    row(
        "compiled",
        whole_copies.pipelines.max(of_parts.pipelines),
        copies.map(|copy| copy.pipelines),
    );
    row(
        "buffers written",
        whole_copies.writes,
        copies.map(|copy| copy.writes),
    );
    row(
        "buffers read back",
        whole_copies.reads,
        copies.map(|copy| copy.reads),
    );
    row(
        "bytes read back",
        whole_copies.read_bytes,
        copies.map(|copy| copy.read_bytes),
    );
    let _ = writeln!(
        text,
        "\nMemory: at most {} KiB in tensors after a part, {} KiB held by the pools.",
        apart.bytes_in_use >> 10,
        whole.bytes_reserved >> 10,
    );
    text
}
