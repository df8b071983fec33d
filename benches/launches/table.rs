//! The counts as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write;

use burn_peft_device::launches::Launches;

use crate::marks::Step;

/// The table of a model's step, counted as a `whole`, with its parts `apart`, and as a whole with frozen
/// weights in f16 (`half`).
pub fn of(name: &str, whole: &Step, apart: &Step, half: &Step, by_block: f64) -> String {
    let (all, half) = (whole.whole(), half.whole());
    let parts = apart.parts.each_ref();
    let mut kinds: Vec<&String> = {
        let parts = parts.iter().flat_map(|part| part.launches.kinds.keys());
        let wholes = all.launches.kinds.keys().chain(half.launches.kinds.keys());
        let kinds: BTreeSet<_> = wholes.chain(parts).collect();
        kinds.into_iter().collect()
    };
    let count = |of: &Launches, kind: &String| of.kinds.get(kind).copied().unwrap_or(0);
    kinds.sort_by_key(|kind| std::cmp::Reverse(count(&all.launches, kind)));
    let mut text = format!(
        "## {name}\n\n{} tokens, 4 blocks; a block is {by_block} launches.\n\n\
         | a step | whole | forward | backward | optimizer | whole, in f16 |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
        whole.tokens
    );
    let mut row = |name: &str, whole: usize, parts: [usize; 3], half: usize| {
        let [forward, backward, optimizer] = parts;
        let _ = writeln!(
            text,
            "| {name} | {whole} | {forward} | {backward} | {optimizer} | {half} |"
        );
    };
    for kind in kinds {
        let of_part = parts.map(|part| count(&part.launches, kind));
        let of_half = count(&half.launches, kind);
        row(kind, count(&all.launches, kind), of_part, of_half);
    }
    let [whole_copies, of_parts] = [all.transfers, apart.whole().transfers];
    let of_half = half.transfers;
    let copies = parts.map(|part| part.transfers);
    row(
        "**launches**",
        all.launches.total(),
        parts.map(|part| part.launches.total()),
        half.launches.total(),
    );
    row(
        "compiled",
        whole_copies.pipelines.max(of_parts.pipelines),
        copies.map(|copy| copy.pipelines),
        of_half.pipelines,
    );
    row(
        "buffers written",
        whole_copies.writes,
        copies.map(|copy| copy.writes),
        of_half.writes,
    );
    row(
        "buffers read back",
        whole_copies.reads,
        copies.map(|copy| copy.reads),
        of_half.reads,
    );
    row(
        "bytes read back",
        whole_copies.read_bytes,
        copies.map(|copy| copy.read_bytes),
        of_half.read_bytes,
    );
    let _ = writeln!(
        text,
        "\nMemory: at most {} KiB in tensors after a part, {} KiB held by the pools.",
        apart.bytes_in_use >> 10,
        whole.bytes_reserved >> 10,
    );
    text
}
