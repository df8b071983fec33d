//! Limits on the length of a chat template and the depth of its expressions.
//!
//! minijinja's parser and compiler recurse for every operator, filter and `elif`: a few thousand of
//! them in a row overflow the stack, which would abort the process.

use crate::error::TemplateProblem;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

/// The largest template in bytes; the templates of published models have less than 20 000.
const LENGTH: usize = 256 << 10;
/// The most operators, filters and brackets in one tag; published templates have a few dozen.
const OPERATORS: usize = 200;
/// The most `elif` in a template.
const BRANCHES: usize = 200;
/// Operators that are words.
const WORDS: [&str; 7] = ["not", "and", "or", "is", "in", "if", "else"];

/// What is too long or too deep in a template, if anything.
pub(super) fn exceeded(
    source: &str,
    syntax: &SyntaxConfig,
    origin: &str,
) -> Option<TemplateProblem> {
    let origin = || origin.to_string();
    if source.len() > LENGTH {
        return Some(TemplateProblem::TooLong {
            origin: origin(),
            bytes: source.len(),
            most: LENGTH,
        });
    }
    let (mut operators, mut branches) = (0, 0);
    // An invalid token is left for the parser to report.
    for (token, span) in tokenize(source, false, syntax.clone()).map_while(Result::ok) {
        match token {
            Token::VariableStart | Token::BlockStart => operators = 0,
            Token::Ident("elif") => branches += 1,
            Token::Ident(word) => operators += usize::from(WORDS.contains(&word)),
            Token::TemplateData(_)
            | Token::VariableEnd
            | Token::BlockEnd
            | Token::Str(_)
            | Token::String(_)
            | Token::Int(_)
            | Token::Int128(_)
            | Token::Float(_)
            | Token::Comma
            | Token::Colon
            | Token::Assign
            | Token::BracketClose
            | Token::ParenClose
            | Token::BraceClose => {}
            _ => operators += 1,
        }
        let line = span.start_line as usize;
        if operators > OPERATORS {
            return Some(TemplateProblem::Operators {
                origin: origin(),
                most: OPERATORS,
                line,
            });
        }
        if branches > BRANCHES {
            return Some(TemplateProblem::Branches {
                origin: origin(),
                most: BRANCHES,
                line,
            });
        }
    }
    None
}
