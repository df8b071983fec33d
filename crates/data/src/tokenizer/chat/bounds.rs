//! How long a chat template may be, and how deep its expressions.
//!
//! minijinja's parser and compiler call themselves for every operator, filter and `elif`: some
//! thousands of them in a row overflow the stack, which ends the process.

use crate::error::TemplateProblem;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

/// Bytes of a template; models' own have less than 20 000.
const LENGTH: usize = 256 << 10;
/// Operators, filters and brackets of one tag; models' own templates have some dozens.
const OPERATORS: usize = 200;
/// The `elif` of a template.
const BRANCHES: usize = 200;
/// Operators that are words.
const WORDS: [&str; 7] = ["not", "and", "or", "is", "in", "if", "else"];

/// What is too long or too deep in a template.
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
    // What is no token is the parser's to tell.
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
