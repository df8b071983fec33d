//! Measures a GPU with this project: whether it computes correctly, tokens per second, memory and
//! launches, as a Markdown table. `benches/gpu/run` builds and starts it.
//!
//! Every measurement runs in its own process, so that a model that does not fit or a driver that
//! crashes does not take the other rows with it.

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
    eprintln!("this build has no GPU backend: benches/gpu/run builds one that has");
    std::process::exit(2);
}
