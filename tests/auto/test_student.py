import json
import pickle
import re
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from cotrain.auto.columns import Columns
from cotrain.auto.fit import fit
from cotrain.auto.model import file_digests
from cotrain.auto.student import NARROW, PARAMETERS, Student, distil, soft_regression, student_views
from cotrain.auto.teach import _parted, _ways
from cotrain.errors import InputError
from cotrain.views.table import ScaledView, StepView
from cotrain.views.text import word_counts

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "predict.md"


@pytest.fixture(scope="module")
def texts(reviews):
    return fit(reviews(rows=120), target="label", method="naive-bayes,emnb", encoder="none", jobs=1)


@pytest.fixture(scope="module")
def mixed(reviews, measures):
    table = measures(rows=80).drop(columns="kind").assign(review=reviews(rows=80)["review"])
    table["label"] = reviews(rows=80)["label"]
    return fit(table, target="label", text="review", method="logistic", encoder="none", jobs=1), table


def test_the_student_says_what_the_committee_says(texts, mixed, reviews):
    fresh = reviews(rows=200, labelled=200, seed=5)
    same = texts.student.predict(fresh) == texts.model.predict(fresh)
    assert same.mean() > 0.95
    assert texts.report["student"]["agreement"] >= 0.9
    result, table = mixed
    assert (result.student.predict(table) == result.model.predict(table)).mean() > 0.85


def test_the_student_comes_back_from_its_folder_as_it_was(texts, mixed, reviews, tmp_path):
    for name, result, table in (("a", texts, reviews(seed=1)), ("b", *mixed)):
        result.student.save(tmp_path / name)
        again = Student.load(tmp_path / name)
        np.testing.assert_array_equal(again.predict_proba(table), result.student.predict_proba(table))
        assert (again.kind, again.classes, again.parameters) == (
            result.student.kind,
            ["bad", "good"],
            result.student.parameters,
        )
        np.testing.assert_allclose(again.predict_proba(table).sum(1), 1, rtol=1e-5)


def test_what_the_report_says_of_the_student_is_so(texts):
    said, student = texts.report["student"], texts.student
    assert said["kind"] == student.kind == "linear on hashed words and characters"
    assert said["parameters"] == sum(w.size for w in student.weights.values()) == student.parameters
    arrays = [*student.weights.values(), *(a for view in student.views.values() for a in view.learned.values())]
    assert said["bytes"] == sum(array.nbytes for array in arrays)
    assert said["rows_per_second"] > 100
    assert 0 <= said["estimate"] <= texts.report["chosen"]["estimate"]


ODD = [
    "the film was GREAT, lovely music and sunny people",
    "ＡＷＦＵＬ dull—boring; 3.5 stars??",
    "naïve café ﬁlm",
    "多么 好的 电影",
    "すごく たのしい えいが",
    "",
    "   ",
    "one",
    "x" * 30_000,
    "nasty\n\ttown\u00a0grim\u2003bleak",
    "joyful\0happy",
    "don't re-watch it's ok",
]


def test_the_predictor_of_the_guide_agrees_with_the_real_one(texts, tmp_path):
    """The format is documented by a program of thirty lines; here it runs."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (code,) = [block for block in blocks if "def predict" in block]
    guide: dict = {}
    exec(code, guide)
    texts.student.save(tmp_path)
    expected = texts.student.predict_proba(pd.DataFrame({"review": ODD}))
    for text, row in zip(ODD, expected, strict=True):
        found = guide["predict"](tmp_path, text)
        assert list(found) == ["bad", "good"]
        np.testing.assert_allclose(list(found.values()), row, atol=1e-5, err_msg=text[:40])
    text = unicodedata.normalize("NFKC", "good😀😀bad ❤\ufe0fx 👍🏽 我爱 ok東京タワーへ行く ไปที่ x กำa")
    assert {value >> 42 for value in guide["words"](text)} == set(word_counts([text]).indices.tolist())


def test_soft_regression_with_sure_targets_is_logistic_regression():
    rng = np.random.default_rng(0)
    x = sparse.random(200, 12, 0.5, random_state=0, format="csr", dtype=np.float32)
    y = (np.asarray(x @ rng.normal(size=(12, 3))) + rng.gumbel(size=(200, 3))).argmax(1)
    weights, bias = soft_regression(x, np.eye(3)[y], penalty=0.3)
    known = LogisticRegression(C=1 / 0.3, tol=1e-8, max_iter=2_000).fit(x, y)
    soft = np.exp(x @ weights + bias)
    np.testing.assert_allclose(soft / soft.sum(1, keepdims=True), known.predict_proba(x), atol=0.01)


def test_soft_regression_goes_on_from_where_it_was():
    rng = np.random.default_rng(0)
    x = sparse.random(300, 40, 0.3, random_state=0, format="csr", dtype=np.float32)
    target = rng.dirichlet([0.2, 0.2, 0.2], 300)
    most, whole = soft_regression(x[:240], target[:240]), soft_regression(x, target)
    found = soft_regression(x, target, start=(most[0].astype(np.float16), most[1]))

    def off(one, other):
        return abs(np.exp(x @ one[0] + one[1]) - np.exp(x @ other[0] + other[1])).max()

    assert off(found, whole) < 0.1 * off(most, whole)


def test_soft_regression_takes_probabilities():
    """Rows that are all alike: the best answer is the mean of their targets."""
    x = sparse.csr_matrix(np.ones((4, 1), np.float32))
    weights, bias = soft_regression(x, np.array([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3], [0.7, 0.3]]))
    soft = np.exp(weights[0] + bias)
    np.testing.assert_allclose(soft / soft.sum(), [0.7, 0.3], atol=1e-3)


def test_a_row_that_counts_twice_stands_for_two():
    rng = np.random.default_rng(0)
    x = sparse.random(90, 12, 0.5, random_state=0, format="csr", dtype=np.float32)
    target, times = rng.dirichlet([0.3, 0.3], 90), np.repeat([0, 1, 2], 30)
    rows = np.repeat(np.arange(90), times)
    for found, wanted in zip(soft_regression(x, target, weight_N=times), soft_regression(x[rows], target[rows])):
        np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_rows_of_a_rare_class_can_count_as_often_as_those_of_a_common_one(kind):
    """Rows that nothing tells apart, of which one in ten is rare."""
    x, rare = kind(np.ones((400, 1), np.float32)), np.arange(400) % 10 == 0
    target = np.eye(2)[rare.astype(int)]
    for weight, share in ((None, 0.1), (np.where(rare, 5, 5 / 9), 0.5)):
        logits = distil({}, [x], target, Columns("y"), ["common", "rare"], 0, 5.0, weight_N=weight).logits([x])
        assert softmax(logits, axis=1)[0, 1] == pytest.approx(share, abs=0.05)


def test_a_net_learns_what_no_line_can_and_stays_small():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 2)).astype(np.float32)
    wanted = np.eye(2)[(x[:, 0] * x[:, 1] > 0).astype(int)]
    columns = Columns("y", number=("a", "b"))
    student = distil({}, [5 + 3 * x], wanted, columns, ["n", "p"], 0, 5.0)
    said = student.logits([5 + 3 * x]).argmax(1)
    assert (said == wanted.argmax(1)).mean() > 0.93
    assert student.kind == "net with one hidden layer"
    assert student.parameters < PARAMETERS
    again = distil({}, [5 + 3 * x], wanted, columns, ["n", "p"], 0, 5.0)
    np.testing.assert_array_equal(student.logits([x]), again.logits([x]))
    other = distil({}, [5 + 3 * x], wanted, columns, ["n", "p"], 1, 5.0)
    assert (student.logits([x]) != other.logits([x])).any()


def test_mixtures_serve_many_numbers_and_not_classes_around_each_other():
    """Why both are tried: against what was not taught, each loses less than the other on one of two problems."""
    rng = np.random.default_rng(0)

    def right(x, y, mixed):
        half = len(x) // 2
        columns, classes = Columns("y"), [str(c) for c in range(y.max() + 1)]
        taught = np.eye(len(classes))[y[:half]]
        student = distil({}, [x[:half]], taught, columns, classes, 0, 5.0, mixed)
        return (student.logits([x[half:]]).argmax(1) == y[half:]).mean()

    digits, names = load_digits(return_X_y=True)
    order = rng.permutation(len(digits))[:600]
    many = digits[order].astype(np.float32), names[order]
    angle, ring = rng.uniform(0, 2 * np.pi, 800), rng.integers(0, 2, 800)
    radius = 1 - 0.5 * ring + 0.1 * rng.normal(size=800)
    around = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]).astype(np.float32), ring
    assert right(*many, True) > right(*many, False)
    assert right(*around, True) < right(*around, False)


def test_the_logits_of_text_and_numbers_add_up():
    rng = np.random.default_rng(0)
    wide, deep = sparse.random(50, 30, 0.3, random_state=0, format="csr"), rng.normal(size=(50, 3)).astype(np.float32)
    wanted = rng.dirichlet([1, 1], 50)
    student = distil({}, [wide, deep], wanted, Columns("y"), ["a", "b"], 0, 5.0)
    w = student.weights
    hidden = np.maximum(deep @ w["hidden"] + w["hidden_bias"], 0)
    expected = w["bias"] + wide @ w["linear"].astype(np.float32) + hidden @ w["out"]
    np.testing.assert_allclose(student.logits([wide, deep]), expected, rtol=1e-4, atol=1e-5)
    assert w["linear"].dtype == np.float16


def test_many_columns_do_not_make_a_large_net():
    x = np.random.default_rng(0).normal(size=(40, 5_000)).astype(np.float32)
    student = distil({}, [x], np.eye(2)[np.arange(40) % 2], Columns("y"), ["a", "b"], 0, 1.0)
    assert student.parameters < 1.1 * PARAMETERS


def test_the_student_gets_small_views_and_no_encoder():
    files = ("encoder of 'text'", "patches", "edges", "edges, reduced", "pixels", "pixels, reduced", "sound")
    views = {name: ScaledView(("n",)) for name in ("table", "curves", "edges of columns")}
    views |= {name: ScaledView(("file",)) for name in files}
    columns = Columns("label", text=("text",), image=("file",), number=("n",))
    small = ["words", "characters", "steps", "table", "curves", "edges of columns", "edges", "pixels", "sound"]
    assert list(student_views(views, columns, 2)) == small
    many = Columns("label", text=("text",), image=("file",), number=("n", *(f"x{i}" for i in range(NARROW))))
    assert list(student_views(views, many, 2)) == [name for name in small if name != "steps"]
    few, many = (student_views({}, columns, classes)["words"].settings["most"] for classes in (2, 100))
    assert few == 40_000
    assert many == 2_000


def test_a_net_sees_thresholds_in_steps():
    """A staircase, such as trees draw it, in one column beside noise."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(size=(1_200, 3)), columns=list("abc"))
    wanted = np.eye(2)[(frame["a"] * 8).astype(int) % 2]
    agreement = {}
    for kind in (ScaledView, StepView):
        view = kind(list("abc"))
        x = view.fit(view.extract(frame[:800])).transform(view.extract(frame))
        student = distil({}, [x[:800]], wanted[:800], Columns("label", number=tuple("abc")), ["x", "y"], 0, 5.0)
        agreement[kind] = (student.logits([x[800:]]).argmax(1) == wanted[800:].argmax(1)).mean()
    assert agreement[StepView] > 0.9 > agreement[ScaledView] + 0.1


def test_edges_and_steps_are_left_out_where_they_drown_the_rest():
    wide, deep = sparse.csr_matrix((2, 2)), np.zeros((2, 2))
    assert _ways({"table": deep}) == [(["table"], False), (["table"], True)]
    both = ["steps", "table"]
    assert _ways(dict.fromkeys(both, deep)) == [(both, False), (both, True), (["table"], False), (["table"], True)]
    both = ["edges", "pixels"]
    assert _ways(dict.fromkeys(both, deep)) == [(both, False), (both, True), (["pixels"], False), (["pixels"], True)]
    assert _ways({"words": wide, "edges": deep}) == [(["words", "edges"], False), (["words"], False)]


@pytest.mark.parametrize("name", ["student.json", "weights.npz", "view0.npz"])
def test_a_damaged_or_hostile_student_is_refused(texts, tmp_path, name):
    texts.student.save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    marker = tmp_path / "marker"

    class Marker:
        def __reduce__(self):
            return Path.touch, (marker,)

    for content in (b"", whole[: len(whole) // 2], pickle.dumps(Marker()), b"PK\x03\x04 nonsense"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=re.escape(name)):
            Student.load(tmp_path)
    if name.endswith("npz"):
        np.savez(tmp_path / name, linear=np.array([Marker()], dtype=object))
        with pytest.raises(InputError, match=re.escape(name)):
            Student.load(tmp_path)
    assert not marker.exists()
    with pytest.raises(InputError, match=r"no student\.json"):
        Student.load(tmp_path / "nowhere")


def test_weights_that_do_not_fit_are_refused(mixed, tmp_path):
    """Though the description says that these are its files."""
    result, table = mixed
    result.student.save(tmp_path)
    about = json.loads((tmp_path / "student.json").read_text())
    weights = result.student.weights

    def changed(name="weights.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        (tmp_path / "student.json").write_text(json.dumps(about | {"files": file_digests(tmp_path)}))
        return tmp_path

    for name, weight in weights.items():
        others = {key: value for key, value in weights.items() if key != name}
        for bad in (weight * np.nan, weight[..., None], weight[..., :-1], weight.astype(str)):
            with pytest.raises(
                InputError, match=r"weights.npz is damaged: its weights are not those of a student of 2"
            ):
                Student.load(changed(**others, **{name: bad}))
        if name not in ("linear", "hidden"):
            with pytest.raises(InputError, match=r"weights.npz is damaged"):
                Student.load(changed(**others))
    with pytest.raises(InputError, match=r"student.json is damaged or was changed"):
        Student.load(changed(**weights | {"linear": weights["linear"][:-1]})).predict(table)
    changed(**weights)
    learned = next(iter(result.student.views.values())).learned
    with pytest.raises(InputError, match=r"student.json is damaged: it gives numbers that are no probabilities"):
        Student.load(changed("view0.npz", **learned | {"idf": learned["idf"] * np.nan})).predict(table)


def test_the_description_is_plain_json(texts, tmp_path):
    texts.student.save(tmp_path)
    about = json.loads((tmp_path / "student.json").read_text())
    assert set(about) == {"format", "version", "kind", "columns", "classes", "views", "files"}
    assert about["format"] == 1
    assert [view["class"] for view in about["views"].values()] == [
        "cotrain.views.text:WordView",
        "cotrain.views.text:CharacterView",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student.json", "view0.npz", "view1.npz", "weights.npz"]


def test_students_are_checked_on_rows_and_groups_that_did_not_teach_them():
    y = np.r_[[0, 1] * 5, np.full(300, -1)]
    unlabelled = np.flatnonzero(y < 0)
    rows = SimpleNamespace(y=y, unlabelled=unlabelled, unit=np.arange(310), grouped=False)
    checked, taught = _parted(rows, np.random.default_rng(0))
    assert len(checked) == 60
    assert (y[checked] < 0).all()
    assert sorted([*checked, *taught]) == list(range(310))
    for seed in range(20):
        for unit in (np.arange(310) // 31, np.minimum(np.arange(310) // 20, 3)):  # ten alike; three and a large one
            groups = SimpleNamespace(y=y, unlabelled=unlabelled, unit=unit, grouped=True)
            checked, taught = _parted(groups, np.random.default_rng(seed))
            assert not set(unit[checked]) & set(unit[taught])
            assert (y[checked] < 0).all()
            assert len(checked)
            assert len(taught) >= 155
    two = SimpleNamespace(y=y, unlabelled=unlabelled, unit=np.arange(310) % 2, grouped=True)
    assert len(_parted(two, np.random.default_rng(0))[0]) == 60  # of two groups none can be spared


def test_both_parts_together_are_right_on_average():
    rng = np.random.default_rng(0)
    wide, deep = sparse.random(200, 30, 0.3, random_state=0, format="csr"), rng.normal(size=(200, 3)).astype(np.float32)
    wanted = np.eye(2)[((deep[:, 0] > 0) | (rng.random(200) < 0.7)).astype(int)]
    student = distil({}, [wide, deep], wanted, Columns("y"), ["a", "b"], 0, 5.0)
    np.testing.assert_allclose(softmax(student.logits([wide, deep]), axis=1).mean(0), wanted.mean(0), atol=0.01)
    again = distil({}, [wide, deep], wanted, Columns("y"), ["a", "b"], 0, 0.0, before=student)  # no time but for a step
    np.testing.assert_allclose(again.logits([wide, deep]), student.logits([wide, deep]), atol=1e-3)


def test_soft_regression_ends_when_its_time_does():
    x = sparse.random(300, 40, 0.3, random_state=0, format="csr", dtype=np.float32)
    target = np.random.default_rng(0).dirichlet([0.2, 0.2, 0.2], 300)
    cut, whole = (soft_regression(x, target, seconds)[0] for seconds in (0.0, 30.0))
    assert 0 < np.abs(cut).sum() < 0.9 * np.abs(whole).sum()


def test_more_characters_than_words_are_counted():
    columns = Columns("label", text=("text",))
    assert [view.settings["most"] for view in student_views({}, columns, 10).values()] == [20_000, 40_000]
