//! The table of token pairs against counting in plain loops, on the text and the targets that a model is evaluated on.

use std::collections::HashMap;
use train::bigram::Bigram;
use train::config::{Config, Overrides};
use train::data::Data;

fn config() -> Config {
    let set = ["data.tokenizer=bpe", "model.vocab_size=300", "eval.fraction=0.1", "model.max_context=16"];
    set.iter().fold(Overrides::preset("gpt-small-test"), |o, s| o.with(s)).resolve().unwrap()
}

#[test]
fn the_table_is_the_formula() {
    let data = Data::open(&config()).unwrap();
    let held_out = data.validation.unwrap();
    let table = Bigram::train(&data.training, 300);
    let stream = |batches: &train::data::Batches| -> Vec<(u32, u32)> {
        (0..batches.rows()).flat_map(|row| batches.pairs(row).collect::<Vec<_>>()).collect()
    };
    let (train, test) = (stream(&data.training), stream(&held_out));
    // One stream cut into rows: each target is the next token.
    assert!(train.windows(2).all(|w| w[0].1 == w[1].0) && test.len() > 50);
    let mut pairs: HashMap<(u32, u32), f64> = HashMap::new();
    let (mut firsts, mut seconds): (HashMap<u32, f64>, HashMap<u32, f64>) = Default::default();
    for (a, b) in &train {
        *pairs.entry((*a, *b)).or_default() += 1.0;
        *firsts.entry(*a).or_default() += 1.0;
        *seconds.entry(*b).or_default() += 1.0;
    }
    let p = |a: u32, b: u32| {
        let single = (seconds.get(&b).unwrap_or(&0.0) + table.added) / (train.len() as f64 + table.added * 300.0);
        match firsts.get(&a) {
            None => single,
            Some(n) => table.lambda * pairs.get(&(a, b)).unwrap_or(&0.0) / n + (1.0 - table.lambda) * single,
        }
    };
    for a in [0, 5, 60, 270, 299] {
        let sum: f64 = (0..300).map(|b| table.probability(a, b)).sum();
        assert!((sum - 1.0).abs() < 1e-9, "after {a}: {sum}");
    }
    let loss = -test.iter().map(|(a, b)| p(*a, *b).ln()).sum::<f64>() / test.len() as f64;
    assert!((table.loss(&held_out) - loss).abs() < 1e-9, "{} {loss}", table.loss(&held_out));
    // It was chosen, not left at what a text without enough rows has, and it beats both of its parts.
    let seen = |b: &u32| seconds.get(b).unwrap_or(&0.0) + table.added;
    let single = test.iter().map(|(_, b)| -(seen(b) / (train.len() as f64 + table.added * 300.0)).ln());
    assert!(table.lambda > 0.1 && table.lambda < 0.99, "{}", table.lambda);
    assert!(loss < single.sum::<f64>() / test.len() as f64);
}

#[test]
fn what_is_kept_apart_is_not_counted() {
    let data = Data::open(&config()).unwrap();
    let tokens = |of: &train::data::Batches| (0..of.rows()).map(|row| of.pairs(row).count()).sum::<usize>();
    let (train, held_out) = (tokens(&data.training), tokens(data.validation.as_ref().unwrap()));
    let share = held_out as f64 / (train + held_out) as f64;
    assert!((0.05..0.2).contains(&share), "{share}");
}
