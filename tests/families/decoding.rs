//! Greedy decoding with a cache.

use super::*;

#[test]
fn greedy_decoding_with_a_cache() {
    each(|case| {
        let expected = case.expected("greedy");
        let prompts = case.prompts();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let settings = GenerationConfig {
            max_new_tokens: expected.len() / prompts.len(),
            ..GenerationConfig::default()
        };
        let go_on = &mut |_, _| ControlFlow::Continue(());
        let rows = generate_rows(&case.adapted(), &prompts, &settings, go_on);
        let rows = rows.unwrap().into_iter();
        let found: Vec<_> = rows.flat_map(|row| row.token_ids).collect();
        let found: Vec<_> = found.into_iter().map(|id| id as f32).collect();
        close("greedy", &found, &expected)
    });
}

#[test]
fn a_text_that_begins_short() {
    each(|case| {
        let (ids, _) = ints(&case.folder, "input_ids");
        let prompt: Vec<u32> = ids[..5].iter().map(|&id| id as u32).collect();
        let Some(expected) = case.expected_if("greedy_alone") else {
            return Ok(());
        };
        let config = GenerationConfig {
            max_new_tokens: expected.len(),
            ..Default::default()
        };
        let mut go_on = |_| ControlFlow::Continue(());
        let found = generate(&case.adapted(), &prompt, &config, &mut go_on).unwrap();
        let found: Vec<f32> = found.into_iter().map(|id| id as f32).collect();
        close("greedy_alone", &found, &expected)
    });
}
