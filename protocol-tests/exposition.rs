//! A strict reader of Prometheus' text format (version 0.0.4): what a scraper may overlook is an
//! error here.

use std::collections::{BTreeMap, BTreeSet};

/// Every series with its value. A series is written `name{label="value",...}`, labels in order.
pub(crate) type Series = BTreeMap<String, f64>;

/// A family whose lines are being read.
struct Family<'t> {
    name: &'t str,
    kind: Option<&'t str>,
    samples: usize,
}

/// Reads `text`, or says which line breaks which rule.
pub(crate) fn read(text: &str) -> Result<Series, String> {
    let mut series = Series::new();
    let mut names = BTreeSet::new();
    let mut family: Option<Family<'_>> = None;
    if !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    for line in text.lines() {
        let complain = |what: &str| Err(format!("{what}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else { return complain("no help") };
            if family.as_ref().is_some_and(|family| family.samples == 0) {
                return complain("the family before has no sample");
            }
            if !names.insert(name) {
                return complain("a second HELP");
            }
            if help.trim().is_empty() || !is_name(name, true) {
                return complain("not a help line");
            }
            family = Some(Family { name, kind: None, samples: 0 });
            continue;
        }
        let Some(family) = &mut family else { return complain("before any HELP") };
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { return complain("no type") };
            if name != family.name || family.kind.is_some() {
                return complain("a TYPE out of place");
            }
            if !["counter", "gauge", "histogram", "summary"].contains(&kind) {
                return complain("an unknown type");
            }
            family.kind = Some(kind);
        } else {
            let (name, labels, value) = sample(line).map_err(|what| format!("{what}: {line}"))?;
            let Some(kind) = family.kind else { return complain("a sample before its TYPE") };
            let parts = ["", "_bucket", "_sum", "_count"];
            let parts = if ["counter", "gauge"].contains(&kind) { &parts[..1] } else { &parts };
            if !parts.iter().any(|part| name.strip_suffix(part) == Some(family.name)) {
                return complain("a sample of another family");
            }
            if kind == "counter" && value < 0.0 {
                return complain("a negative counter");
            }
            family.samples += 1;
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let key = if labels.is_empty() {
                name.to_owned()
            } else {
                format!("{name}{{{}}}", labels.join(","))
            };
            if series.insert(key, value).is_some() {
                return complain("a second sample of the series");
            }
        }
    }
    if family.is_none_or(|family| family.samples == 0) {
        return Err("the last family has no sample".to_owned());
    }
    histograms_add_up(text, &series)?;
    Ok(series)
}

/// Every histogram (without labels of its own) has buckets that grow with their bound, and the last
/// of them, which has no bound, is the count.
fn histograms_add_up(text: &str, series: &Series) -> Result<(), String> {
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for name in kinds.filter_map(|kind| kind.strip_suffix(" histogram")) {
        let bucket = |(series, &count): (&String, &f64)| {
            let bound = series.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?;
            Some((bound.strip_suffix("\"}")?.parse::<f64>().ok()?, count))
        };
        let mut buckets: Vec<(f64, f64)> = series.iter().filter_map(bucket).collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        if !buckets.is_sorted_by(|one, other| one.0 < other.0 && one.1 <= other.1) {
            return Err(format!("the buckets of {name} are not cumulative: {buckets:?}"));
        }
        let all = buckets.last().filter(|(bound, _)| bound.is_infinite()).map(|(_, all)| all);
        let count = series.get(&format!("{name}_count"));
        if all.is_none() || all != count || !series.contains_key(&format!("{name}_sum")) {
            return Err(format!("{name} has no count, or another than all its buckets, or no sum"));
        }
    }
    Ok(())
}

type Sample<'l> = (&'l str, BTreeMap<&'l str, String>, f64);

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("not a name");
    }
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or("not a label")?;
            let (value, after) = quoted(after)?;
            if !is_name(label, false) || labels.insert(label, value).is_some() {
                return Err("not a label's name, or twice the same");
            }
            if let Some(next) = after.strip_prefix(',') {
                rest = next;
            } else {
                rest = after.strip_prefix('}').ok_or("labels without an end")?;
                break;
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no value")?;
    let digits = |c: char| c.is_ascii_digit() || ['.', 'e', '-', '+'].contains(&c);
    match value.parse::<f64>() {
        Ok(number) if value.chars().all(digits) => Ok((name, labels, number)),
        _ => Err("not a finite number"),
    }
}

/// A label's value up to its closing quote, and what follows.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, plain @ ('"' | '\\'))) => plain,
                _ => return Err("an unknown escape"),
            }),
            plain => value.push(plain),
        }
    }
    Err("a value without its closing quote")
}

fn is_name(name: &str, of_metric: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (of_metric && c == ':');
    name.chars().all(fits) && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
}

#[test]
fn the_reader_reads_what_is_right() {
    let text = "# HELP a_total Help \\\\ text.\n# TYPE a_total counter\na_total 1\n\
        # HELP b B.\n# TYPE b gauge\nb{x=\"1\",y=\"a \\\"b\\\" \\\\ \\n}, \"} -2.5e3\nb{x=\"2\",y=\"\"} 0\n\
        # HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 0.5\nh_count 1\n";
    let series = read(text).unwrap();
    assert_eq!(series.len(), 6);
    assert!(series.contains_key("a_total") && series.contains_key("b{x=\"2\",y=\"\"}"));
    assert!(series.contains_key("b{x=\"1\",y=\"a \\\"b\\\" \\\\ \\n}, \"}"), "{series:?}");
}

#[test]
fn the_reader_refuses_what_a_scraper_may_overlook() {
    let head = "# HELP a A.\n# TYPE a counter\n";
    for wrong in [
        "",
        "a 1\n",
        "# HELP a A.\na 1\n",
        "# TYPE a counter\na 1\n",
        "# HELP a A.\n# TYPE a thing\na 1\n",
        "# HELP a A.\n# TYPE b counter\nb 1\n",
        "# HELP a \n# TYPE a counter\na 1\n",
        head,
        &format!("{head}a 1"),
        &format!("{head}a 1\n{head}a{{x=\"1\"}} 1\n"),
        &format!("{head}{head}a 1\n"),
        &format!("{head}# TYPE a counter\na 1\n"),
        &format!("{head}a 1\na 2\n"),
        &format!("{head}a{{x=\"1\",y=\"2\"}} 1\na{{y=\"2\",x=\"1\"}} 1\n"),
        &format!("{head}b 1\n"),
        &format!("{head}a_sum 1\n"),
        &format!("{head}a -1\n"),
        &format!("{head}a yes\n"),
        &format!("{head}a NaN\n"),
        &format!("{head}a inf\n"),
        &format!("{head}a  1\n"),
        &format!("{head}a 1 1700000000\n"),
        &format!("{head}a\n"),
        &format!("{head}a{{x=\"1\" 1\n"),
        &format!("{head}a{{x=\"1\\t\"}} 1\n"),
        &format!("{head}a{{x=\"1\",x=\"2\"}} 1\n"),
        &format!("{head}a{{1x=\"1\"}} 1\n"),
        &format!("{head}a{{}} 1\n"),
        &format!("{head}\na 1\n"),
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\n",
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\n",
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n",
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n",
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\n\
            h_count 1\n",
    ] {
        assert!(read(wrong).is_err(), "{wrong:?}");
    }
}
