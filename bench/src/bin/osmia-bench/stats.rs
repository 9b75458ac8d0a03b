//! Medians and spreads over rounds.

use serde::Serialize;

/// Median, least and greatest of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }

    /// Of the quotients of values that were measured in the same round: what both had in common,
    /// a slow phase of the machine for instance, cancels out.
    pub(crate) fn of_ratios(above: &[f64], below: &[f64]) -> Option<Self> {
        Self::of(above.iter().zip(below).filter(|(_, b)| **b > 0.0).map(|(a, b)| a / b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        let spread = Spread::of([3.0, 1.0, 2.0]).expect("a spread");
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).expect("a spread");
        assert_eq!(spread, Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_pair_rounds() {
        let spread = Spread::of_ratios(&[2.0, 9.0, 4.0], &[4.0, 18.0, 8.0]).expect("a spread");
        assert_eq!(spread, Spread { median: 0.5, min: 0.5, max: 0.5 });
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
    }
}
