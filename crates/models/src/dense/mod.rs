//! One decoder for all families whose blocks are an attention and a feed-forward network. Their
//! differences are data ([`Switches`]), and so are the names of their parts ([`Layout`]).

mod attention;
mod block;
mod config;
mod keys;
pub mod layout;
mod mlp;
mod model;
mod rotary;
mod switches;
mod walk;

pub use attention::Attention;
pub use block::Block;
pub use config::DenseConfig;
pub use keys::Keys;
pub use layout::Layout;
pub use mlp::Mlp;
pub use model::{DenseForCausalLM, DenseModel, Rotary};
pub use rotary::{ROPE_KEYS, RopeKeys, rope};
pub use switches::{Family, Layer, QueryGrowth, Switches};
