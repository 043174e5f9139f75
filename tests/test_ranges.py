import numpy as np
import pytest

from reszoo.ranges import (
    Either,
    Exactly,
    Maybe,
    Number,
    Several,
    Switch,
    Text,
    Whole,
    Word,
    check,
    literal,
    shown,
)

COUNT = Whole(1, 2**62)
NAMES = Several(Word(("a", "b")), '("a",)', distinct=True)


@pytest.mark.parametrize(
    ("values", "value", "read"),
    [
        (COUNT, 2**53 + 1, 2**53 + 1),  # a float has no such number
        (COUNT, np.uint8(3), 3),
        (COUNT, 3.0, 3),
        (Number(0, 1), np.float32(0.5), 0.5),
        (Number(0, 1), 1, 1.0),
        (Switch(), np.bool_(True), True),
        (Word(("a",)), np.str_("a"), "a"),
        (Maybe(COUNT), None, None),
        (Several(COUNT, "(1,)"), np.array([1, 2]), (1, 2)),
        (Several(COUNT, "(1,)"), [1, 2.0], (1, 2)),
        (Either(COUNT, Switch()), True, True),
        (Exactly(("a",), also=("a",)), ["a"], ("a",)),
        (NAMES, (), ()),
    ],
)
def test_what_is_read_is_of_pythons_own_types(values, value, read):
    found = check("x", value, values)
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(
    ("values", "value", "sentence"),
    [
        (COUNT, 0.5, "x must be a whole number of at least 1 and at most 4,611,686,018,427,387,904"
         ", but got 0.5."),
        (Number(0, 1, above=True), 0, "x must be a number above 0 and at most 1, but got 0."),
        (Number(0, 1), np.inf, "x must be a number of at least 0 and at most 1, but got inf."),
        (Number(0, 1, below=True), 1 - 1e-12, "x must be a number of at least 0 and below 1, but "
         "got 0.999999999999 (which is 1 in float32)."),
        (Word(("a", "b")), "c", 'x must be "a" or "b", but got \'c\'.'),
        (Word(("a",)), 3, 'x must be "a", but got 3.'),
        (Text("a"), " ", 'x must be a string that is not empty, such as "a", but got \' \'.'),
        (Maybe(Switch()), 3, "x must be True or False, or None, but got 3."),
        (NAMES, "a", 'x must be a tuple such as ("a",), all different, each "a" or "b", but got '
         "'a'."),
        (NAMES, ("a", "c"), 'x must be a tuple such as ("a",), all different, each "a" or "b", but '
         "got ('a', 'c') (see element 1, 'c')."),
    ],
)  # fmt: skip
def test_the_sentence_about_a_value_outside(values, value, sentence):
    with pytest.raises(ValueError, match="x must be") as error:
        check("x", value, values)
    assert str(error.value) == sentence


def test_a_near_word_of_many_is_named():
    with pytest.raises(ValueError, match=r"must be a letter, but got 'word13'\. Did .*\?$"):
        check("x", "word13", Word(tuple(f"word{n}" for n in range(13)), "a letter"))


def test_what_is_shown_of_a_value_is_one_short_line():
    class Wordless:
        def __repr__(self):
            raise KeyError

    assert "\n" not in shown("a\nb") + shown(np.zeros((9, 9))) + shown(Wordless())
    assert len(shown("a" * 1000)) < 100
    assert len(shown(list(range(1000)))) < 100


@pytest.mark.parametrize("text", ["a", "1 +", "(", "[" * 5000, "__import__('os')", "{1: }", "a\0"])
def test_a_text_that_is_no_literal_is_itself(text):
    assert literal(text) == text
