//! The results of a classifier for each label, before and after training.

use std::fmt::Write;

use super::confusion::{MOST, most_taken, picture};
use super::{Report, escape};
use crate::objective::by_class::{ByClass, ClassFigures};

/// The figures of each label as a table, and the confusions.
pub(super) fn classes(report: &Report, page: &mut String) {
    let Some(after) = &report.after.by_class else {
        return;
    };
    let of = after.of;
    let _ = write!(
        page,
        "<h2>By {of}</h2>\n<p class=\"dim\">Of the model after training, on the validation \
         data.</p>\n"
    );
    table(page, after, report.before.by_class.as_ref());
    let Some(confusion) = &after.confusion else {
        return;
    };
    if confusion.names.len() <= MOST {
        page.push_str(&picture(confusion));
    } else {
        page.push_str(&most_taken(confusion));
    }
}

fn table(page: &mut String, after: &ByClass, before: Option<&ByClass>) {
    let _ = write!(page, "<div class=\"table\"><table><tr><th>{}", after.of);
    for heading in ["precision", "recall", "F1"] {
        let _ = write!(page, "<th class=\"number\">{heading}");
    }
    if before.is_some() {
        page.push_str("<th class=\"number\">F1 before");
    }
    page.push_str("<th class=\"number\">support");
    let f1_before = |name: &str, is_mean: bool| {
        let before = before?;
        let mut all = if is_mean {
            before.means.iter()
        } else {
            before.classes.iter()
        };
        let found = all.find(|one| one.name == name);
        Some(found.map_or("–".into(), |one| format!("{:.4}", one.f1)))
    };
    let mut row = |one: &ClassFigures, is_mean: bool| {
        let class = if is_mean { " class=\"dim\"" } else { "" };
        let _ = write!(page, "<tr{class}><td>{}", escape(&one.name));
        for value in [one.precision, one.recall, one.f1] {
            let _ = write!(page, "<td class=\"number\">{value:.4}");
        }
        if let Some(before) = f1_before(&one.name, is_mean) {
            let _ = write!(page, "<td class=\"number\">{before}");
        }
        let _ = write!(page, "<td class=\"number\">{}", one.support);
    };
    after.classes.iter().for_each(|one| row(one, false));
    after.means.iter().for_each(|one| row(one, true));
    page.push_str("</table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::by_class::Confusion;
    use crate::seeing::assessment::Assessment;

    fn found(counts: Vec<Vec<usize>>, names: &[&str]) -> Assessment {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let confusion = Confusion::of_rows(names.clone(), &counts);
        let hits = confusion.hits();
        let by_class = ByClass::new("label", &names, &hits, false, Some(confusion));
        Assessment {
            by_class: Some(by_class),
            ..Assessment::default()
        }
    }

    #[test]
    fn labels_have_a_table_and_a_picture() {
        let names = ["bad", "<good>"];
        let report = Report {
            before: found(vec![vec![0, 4], vec![0, 6]], &names),
            after: found(vec![vec![3, 1], vec![0, 6]], &names),
            ..Report::default()
        };
        let page = report.html(&[]);
        for part in [
            "<h2>By label</h2>",
            "<tr><td>bad<td class=\"number\">1.0000<td class=\"number\">0.7500<td class=\"number\">0.8571\
             <td class=\"number\">0.0000<td class=\"number\">4",
            "<td>&lt;good&gt;<",
            "<tr class=\"dim\"><td>macro avg",
            "aria-label=\"Confusion: 9 of 10 are right; bad: 3 of 4 right, 1 taken for &lt;good&gt;",
            "<title>bad taken for &lt;good&gt;: 1 of 4 (25.0 %)</title>",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert!(!page.contains("<good>"), "{page}");
    }

    #[test]
    fn of_many_labels_the_commonest_mistakes_are_told() {
        let names: Vec<String> = (0..MOST + 1).map(|id| format!("label {id}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut counts = vec![vec![0; names.len()]; names.len()];
        (counts[2][2], counts[2][5], counts[7][1]) = (6, 2, 1);
        let report = Report {
            after: found(counts, &names),
            ..Report::default()
        };
        let page = report.html(&[]);
        assert!(!page.contains("<svg"), "{page}");
        let row = "<tr><td>label 2<td>label 5<td class=\"number\">2<td class=\"number\">25.0 %<tr>";
        assert!(page.contains(row), "{page}");
    }
}
