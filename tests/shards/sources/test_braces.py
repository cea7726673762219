import pytest

from shards.errors import SourceError
from shards.sources.braces import expanded, has_braces


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a-{0..2}.tar", ["a-0.tar", "a-1.tar", "a-2.tar"]),
        ("a-{08..11}", ["a-08", "a-09", "a-10", "a-11"]),
        ("a-{8..11}", ["a-8", "a-9", "a-10", "a-11"]),
        ("{x,y}/{0..1}", ["x/0", "x/1", "y/0", "y/1"]),
        ("{train,}/a", ["train/a", "/a"]),
        ("{x}-{0..0}", ["{x}-0"]),
        ("plain", ["plain"]),
    ],
)
def test_names_are_those_of_a_shell(text, names):
    assert expanded(text) == names


@pytest.mark.parametrize("text", ["a", "{a}", "{}", "{0..}", "{a..b}", "}{", "{0..1"])
def test_other_braces_are_names(text):
    assert not has_braces(text)
    assert expanded(text) == [text]


@pytest.mark.parametrize("text", ["{0..100000}", "{000..999}{000..999}", "{0..999999999999999999}"])
def test_a_slip_of_the_pen_makes_no_list_of_millions(text):
    with pytest.raises(SourceError, match="at most 100,000 are expanded"):
        expanded(text)
