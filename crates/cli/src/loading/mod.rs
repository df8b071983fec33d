//! Opening what `--model`, `--adapter`, `--tokenizer` and `--data` name.

mod args;
mod embedder;
mod form;
mod head;
mod model;
mod rows;
mod tokenizer;

pub use args::{KeptArgs, ModelArgs, ModelsArgs, at_least_one};
pub use embedder::{EmbedderArgs, modules_of};
pub use form::check_form;
pub use head::{check_causal, check_language_model, head_for, head_of};
pub use model::{
    completed, find_model, load_adapter, load_base, load_dense, load_frozen, load_kept, load_model,
    load_with_head, model_input, open, open_each, open_each_as, open_headless,
};
pub use rows::{
    AnswerArgs, RowArgs, find_data, rows_help, sources_help, warn_of_space, warn_of_template,
};
pub use tokenizer::{find_tokenizer, load_tokenizer, open_tokenizer};
