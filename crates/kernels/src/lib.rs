//! The operations a training step spends its time in, each with its own backward pass.
