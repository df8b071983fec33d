//! The families, a file each. A file gives the names of the family's parts, so that a module's path
//! is its Hugging Face name, and says what they compute.

pub mod apertus;
pub mod arcee;
pub mod bert;
pub mod cohere2;
pub mod distilbert;
pub mod ernie4_5;
pub mod exaone4;
pub mod gemma;
pub mod gemma2;
pub mod gemma3_text;
pub mod glm4;
pub mod gpt2;
pub mod gpt_neox;
pub mod granite;
pub mod hunyuan_v1_dense;
pub mod llama;
pub mod ministral;
pub mod ministral3;
pub mod mistral;
pub mod modernbert;
pub mod olmo2;
pub mod olmo3;
pub mod phi;
pub mod phi3;
pub mod qwen2;
pub mod qwen3;
pub mod seed_oss;
pub mod smollm3;
pub mod stablelm;
pub mod starcoder2;

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_about_adding_a_model_has_a_family_as_it_is() {
        let page = include_str!("../../../../docs/adding-a-model.md");
        assert!(page.contains(include_str!("olmo2.rs")));
    }
}
