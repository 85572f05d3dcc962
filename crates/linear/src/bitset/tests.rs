//! Sets against `BTreeSet`s.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn set(numbers: &[usize]) -> BitSet {
    let mut set = BitSet::default();
    for &number in numbers {
        set.insert(number);
    }
    set
}

/// Sets that fill up from below: all numbers to some bound but a few, and a few above.
fn filling() -> impl Strategy<Value = Vec<usize>> {
    let few = || proptest::collection::btree_set(0_usize..200, 0..4);
    (0_usize..200, few(), few()).prop_map(|(bound, without, with)| {
        (0..bound).filter(|number| !without.contains(number)).chain(with.iter().copied()).collect()
    })
}

#[test]
fn full_words_are_not_stored() {
    let all: Vec<usize> = (0..1_000).collect();
    assert_eq!(set(&all), BitSet { full_words: 15, words: vec![(1 << 40) - 1] });
}

proptest! {
    #[test]
    fn it_is_a_set(one in filling(), two in filling()) {
        let (bits, other_bits) = (set(&one), set(&two));
        let one: BTreeSet<usize> = one.into_iter().collect();
        let two: BTreeSet<usize> = two.into_iter().collect();
        prop_assert!((0..300).all(|number| bits.contains(number) == one.contains(&number)));
        prop_assert_eq!(bits.len(), one.len());
        prop_assert_eq!((0..300).find(|number| !one.contains(number)), Some(bits.first_absent()));
        prop_assert_eq!(bits.is_subset(&other_bits), one.is_subset(&two));
        prop_assert_eq!(bits == other_bits, one == two);
    }

    #[test]
    fn the_order_of_insertion_leaves_no_trace(
        numbers in filling().prop_flat_map(|numbers| (Just(numbers.clone()), Just(numbers).prop_shuffle())),
    ) {
        prop_assert_eq!(set(&numbers.0), set(&numbers.1));
        prop_assert!(set(&numbers.0).is_subset(&set(&numbers.1)));
    }
}
