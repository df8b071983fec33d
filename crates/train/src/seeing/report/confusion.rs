//! The confusion matrix as a picture.

use std::fmt::Write;

use super::escape;
use crate::objective::by_class::Confusion;

/// The most labels that a picture shows.
pub(super) const MOST: usize = 30;
/// The number of mistakes listed if there is no picture.
const MISTAKES: usize = 20;
/// The number of letters of a label shown beside a picture.
const LETTERS: usize = 20;
/// The width of a letter, and the height of a line.
const LETTER: f64 = 6.6;
const LINE: f64 = 16.0;

/// A `<figure>`: a row for each true label, a column for each predicted one. The colour of a square
/// shows its share of the row; correct predictions are on the diagonal.
pub(super) fn picture(confusion: &Confusion) -> String {
    let count = confusion.names.len();
    let cell = (600.0 / count.max(1) as f64).clamp(25.0, 88.0);
    let names: Vec<String> = confusion.names.iter().map(|name| shortened(name)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max();
    let text = longest.unwrap_or(0) as f64 * LETTER;
    // Slanted names need room above, and to the right of the last column.
    let is_slanted = text > cell - 6.0;
    let above = if is_slanted { text * 0.75 + LINE } else { LINE };
    let (left, top) = (text.max(44.0) + 12.0, above + LINE + 6.0);
    let side = cell * count as f64;
    let right = if is_slanted { text * 0.72 + 8.0 } else { 4.0 };
    let width = (left + side + right).max(left + 120.0);
    let height = top + side + 6.0;

    let mut svg = format!(
        "<text class=\"axis\" x=\"{left:.0}\" y=\"12\">found →</text>\
         <text class=\"axis\" x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">true ↓</text>",
        left - 8.0,
        top - 7.0
    );
    for (at, name) in names.iter().enumerate() {
        let name = escape(name);
        let (x, y) = (
            left + (at as f64 + 0.5) * cell,
            top + (at as f64 + 0.5) * cell,
        );
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            left - 8.0,
            y + 4.0
        );
        let above = top - 7.0;
        let _ = if is_slanted {
            write!(
                svg,
                "<text transform=\"translate({:.1} {above:.1}) rotate(-45)\">{name}</text>",
                x + 3.0
            )
        } else {
            write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{above:.1}\" text-anchor=\"middle\">{name}</text>"
            )
        };
    }
    for (truth, row) in confusion.rows().iter().enumerate() {
        let all: usize = row.iter().sum();
        for (found, &number) in row.iter().enumerate() {
            let share = number as f64 / all.max(1) as f64;
            let (x, y) = (left + found as f64 * cell, top + truth as f64 * cell);
            let is_right = truth == found;
            let _ = write!(
                svg,
                "<g><title>{} taken for {}: {number} of {all} ({:.1} %)</title>\
                 <rect class=\"cell\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{cell:.1}\" height=\"{cell:.1}\"/>",
                escape(&confusion.names[truth]),
                escape(&confusion.names[found]),
                100.0 * share
            );
            if number > 0 {
                let class = if is_right { "one" } else { "two" };
                let strength = 0.12 + 0.88 * share;
                let ink = if strength > 0.6 { "over" } else { "ink" };
                let size = if cell < 34.0 { " small" } else { "" };
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" fill-opacity=\"{strength:.2}\" x=\"{:.1}\" y=\"{:.1}\" \
                     width=\"{:.1}\" height=\"{:.1}\"/>\
                     <text class=\"{ink}{size}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    x + 1.0,
                    y + 1.0,
                    cell - 2.0,
                    cell - 2.0,
                    x + cell / 2.0,
                    y + cell / 2.0 + 4.0,
                    short(number)
                );
            }
            svg.push_str("</g>");
        }
    }
    format!(
        "<figure class=\"confusion\"><figcaption>Confusion matrix \
         <span class=\"legend\"><span>right</span><span class=\"two\">wrong</span></span></figcaption>\
         <p class=\"dim\">A row for each true label, divided by the labels that were found; the stronger \
         a colour, the larger the share of the row.</p>\
         <svg viewBox=\"0 0 {width:.0} {height:.0}\" style=\"width:{width:.0}px\" role=\"img\" \
         aria-label=\"{}\">{svg}</svg></figure>\n",
        told(confusion)
    )
}

/// The most common mistakes as a table.
pub(super) fn most_taken(confusion: &Confusion) -> String {
    let mut out = String::from(
        "<h3>The most frequent confusions</h3>\n<div class=\"table\"><table><tr><th>true<th>found\
         <th class=\"number\">times<th class=\"number\">share of the true ones",
    );
    for mistake in confusion.mistakes().into_iter().take(MISTAKES) {
        let [truth, found] = [mistake.truth, mistake.found].map(escape);
        let times = mistake.times;
        let share = 100.0 * times as f64 / mistake.support as f64;
        let _ = write!(
            out,
            "<tr><td>{truth}<td>{found}<td class=\"number\">{times}<td class=\"number\">{share:.1} %"
        );
    }
    out.push_str("</table></div>\n");
    out
}

/// The picture in words.
fn told(confusion: &Confusion) -> String {
    let rows = confusion.rows();
    let all: usize = rows.iter().flatten().sum();
    let diagonal = rows.iter().enumerate();
    let right: usize = diagonal.map(|(label, row)| row[label]).sum();
    let mut out = format!("Confusion: {right} of {all} are right");
    for (label, row) in rows.iter().enumerate() {
        let of: usize = row.iter().sum();
        let name = escape(&confusion.names[label]);
        let _ = write!(out, "; {name}: {} of {of} right", row[label]);
        let most = row.iter().enumerate().filter(|(found, _)| *found != label);
        if let Some((found, &number)) = most.max_by_key(|(_, number)| **number)
            && number > 0
        {
            let other = escape(&confusion.names[found]);
            let _ = write!(out, ", {number} taken for {other}");
        }
    }
    out
}

/// A name that fits beside the picture.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.into(),
    }
}

/// A number that fits into a square: `12`, `1.2k`, `34k`.
fn short(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..9_950 => format!("{:.1}k", number as f64 / 1e3),
        9_950..999_500 => format!("{:.0}k", number as f64 / 1e3),
        _ => format!("{:.0}M", number as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_into_their_squares() {
        let texts = [0, 999, 1_000, 9_949, 9_950, 34_400, 2_000_000].map(short);
        assert_eq!(texts, ["0", "999", "1.0k", "9.9k", "10k", "34k", "2M"]);
    }

    #[test]
    fn pictures_of_two_and_of_thirty_labels_are_whole() {
        for count in [0, 1, 2, 5, 30] {
            let names: Vec<String> = (0..count)
                .map(|id| format!("a long label {id:04}"))
                .collect();
            let row = |label: usize| {
                (0..count)
                    .map(|id| usize::from(id == label) * 10 + 1)
                    .collect()
            };
            let rows: Vec<_> = (0..count).map(row).collect();
            let svg = picture(&Confusion::of_rows(names, &rows));
            assert_eq!(svg.matches("<title>").count(), count * count);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
