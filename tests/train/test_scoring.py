from train.translate.scoring import character_accuracy, exact_match, exact_match_by_group


def test_exact_match_counts_whole_outputs():
    assert exact_match(["ab", "cd", "e"], ["ab", "cx", "e"]) == 2 / 3


def test_character_accuracy_counts_missing_and_surplus_characters_as_wrong():
    assert character_accuracy(["abc"], ["abc"]) == 1.0
    assert character_accuracy(["abx"], ["abc"]) == 2 / 3
    assert character_accuracy(["ab"], ["abcd"]) == 0.5
    assert character_accuracy(["abcd"], ["ab"]) == 0.5


def test_groups_come_largest_first_with_their_own_share():
    groups = exact_match_by_group(["1", "2", "3"], ["1", "x", "3"], ["b", "a", "a"])
    assert list(groups) == ["a", "b"]
    assert groups["a"] == {"count": 2, "exact_match": 0.5}
    assert groups["b"] == {"count": 1, "exact_match": 1.0}
