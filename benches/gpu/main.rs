//! What a GPU does with this project: whether it computes rightly, tokens a second, memory and
//! launches, as a Markdown table. `benches/gpu/run` builds and starts it.
//!
//! Every measurement runs in a process of its own: a model that does not fit, or a driver that
//! crashes, leaves the others their rows.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[path = "../launches/marks.rs"]
mod marks;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod measured;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod report;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[path = "../launches/transfers.rs"]
mod transfers;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn main() -> anyhow::Result<()> {
    report::main()
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn main() {
    eprintln!("this build has no GPUs: benches/gpu/run builds one that does");
    std::process::exit(2);
}
