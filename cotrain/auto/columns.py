"""Which columns of a table hold what: text, images, sounds, numbers, categories, dates; and which hold nothing."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from cotrain.auto.cells import NUMBERS, look_numeric, numbers_for_none, read_numbers, words_for_none
from cotrain.auto.codes import code_columns, read_parts, repeating_parts
from cotrain.auto.dates import count_as_dates, date_columns, looks_like_dates
from cotrain.auto.groups import group_hints
from cotrain.auto.labels import cell_texts, check_classes
from cotrain.auto.nested import keys_of
from cotrain.auto.shape import Maybe
from cotrain.auto.vectors import vector_columns, vector_shape
from cotrain.auto.wording import listing
from cotrain.auto.written import Writing, read_written, recognise
from cotrain.data.files import find_file, is_file
from cotrain.errors import InputError
from cotrain.views.text import UNSPACED

IMAGES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
IMAGES += (".apng", ".jpe", ".jfif", ".jp2", ".j2k", ".jpf", ".jpx", ".avif", ".dib", ".pbm", ".pnm", ".pfm", ".tga")
IMAGES += (".pcx", ".ico", ".qoi", ".dds")
SOUNDS: tuple[str, ...] = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au", ".opus")
SOUNDS += (".wave", ".oga", ".aifc", ".snd", ".caf", ".w64", ".rf64", ".sph")
# Images, sounds and films that neither Pillow nor libsndfile reads.
UNREADABLE: tuple[str, ...] = (".heic", ".heif", ".svg", ".dcm", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw")
UNREADABLE += (".m4a", ".aac", ".wma", ".amr", ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
CONVERT = "convert them to PNG or WAV"
Kind = Literal["text", "image", "audio", "number", "category", "date", "code", "vector", "dropped"]
# In JSON; lists that are not there are empty.
LISTS = ("text", "image", "audio", "number", "category", "date", "code", "vector", "group", "hints")
SHAPE = {
    "target": str,
    **{f"{name}?": [str] for name in LISTS},
    "levels": {},
    **{f"{name}?": {} for name in ("orders", "written", "none", "spans", "parts", "shapes", "splits", "dropped")},
    "longest?": Maybe(int),
    "unlabelled?": Maybe(str),
}
_SAMPLE = 2_000  # cells looked at to tell what a column holds
FEW_CODES = 20  # of different whole numbers with leading zeros that are categories, such as months
_ID_NAME = re.compile(
    r"(^|[_\W])(id|ids|uuid|guid|index|idx|key|row|nr|no|unnamed)($|[_\W\d])|[a-z]I[dD]$|^column \d+$", re.IGNORECASE
)  # column 1: one without a name, as programs write the numbers of rows
_UUID = re.compile(r"^\{?[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\}?$", re.IGNORECASE)
_HEX = re.compile(r"^(0x)?[0-9a-f]{8,}$", re.IGNORECASE)
_CODES = "identifier (every value is another code)"


@dataclass(frozen=True)
class Columns:
    """The names of the columns by what they hold, in the order of the table.

    levels: the values of each category column. orders: how the dates of each date column are written. written: how the
    numbers of number columns are that hold texts such as "1,234.50" or "3 kg". none: numbers such as -999 that stand
    for a missing value. spans: the least and the greatest of each number column. parts: the places of the parts of
    each code column that are learnt from, as categories. shapes: of each column of vectors. splits: columns with
    several numbers in a cell, which become columns of their own: the mark between them and their count. dropped: why a
    column is not used. hints: sentences about columns or parts of file names that may be groups. longest: characters
    of a text that are read, where all texts together would be too many. unlabelled: what cells of the target hold
    where there is no label, if that was said.
    """

    target: str
    text: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    number: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    date: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    vector: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    orders: dict[str, str] = field(default_factory=dict)
    written: dict[str, Writing] = field(default_factory=dict)
    none: dict[str, tuple[float, ...]] = field(default_factory=dict)
    spans: dict[str, tuple[float, ...]] = field(default_factory=dict)
    parts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    splits: dict[str, tuple[str, int]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    hints: tuple[str, ...] = ()
    longest: int | None = None
    unlabelled: str | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that are learnt from."""
        return self.text + self.image + self.audio + self.cells

    @property
    def cells(self) -> tuple[str, ...]:
        """The columns that are no text and name no file."""
        return self.number + self.category + self.date + self.code + self.vector

    @property
    def numbers(self) -> tuple[str, ...]:
        """The number columns of an aligned table: the measured ones and those made of its dates."""
        return self.measured + tuple(part for name in self.date for part in date_columns(name))

    @property
    def measured(self) -> tuple[str, ...]:
        """The table's own number columns and those made of its vectors."""
        return self.number + tuple(part for name in self.vector for part in vector_columns(name, self.shapes[name]))

    @property
    def categories(self) -> tuple[str, ...]:
        """The category columns of an aligned table: the table's own and those made of its codes."""
        return self.category + tuple(part for name in self.code for part in code_columns(name, self.parts[name]))

    @property
    def own(self) -> dict[str, str]:
        """For each number and category column of an aligned table the column of the table that it is made of."""
        dates = {part: name for name in self.date for part in date_columns(name)}
        codes = {part: name for name in self.code for part in code_columns(name, self.parts[name])}
        vectors = {part: name for name in self.vector for part in vector_columns(name, self.shapes[name])}
        return {name: name for name in self.number + self.category} | vectors | dates | codes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Columns":
        """The inverse of to_dict, also after a trip through JSON. Raises KeyError where something of a column is not
        there."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        plain["levels"] = {name: tuple(levels) for name, levels in values["levels"].items()}
        plain["written"] = {name: Writing(*writing) for name, writing in values.get("written", {}).items()}
        for numbers in ("none", "spans", "parts", "shapes", "splits"):
            plain[numbers] = {name: tuple(each) for name, each in values.get(numbers, {}).items()}
        found = cls(**plain)
        for name in found.date:
            found.orders[name]
        found.numbers, found.categories  # noqa: B018  # of parts and vectors that are described
        return found


class Found(NamedTuple):
    """What a column holds. why: it is dropped. order: of its dates. writing: of its numbers, if they are texts. none:
    numbers that stand for a missing value. span: the least and the greatest of its other numbers. places: of the parts
    of its codes that repeat. shape: of its vectors."""

    kind: Kind
    why: str = ""
    order: str = ""
    writing: Writing | None = None
    places: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    none: tuple[float, ...] = ()
    span: tuple[float, ...] = ()


def infer(
    frame: pd.DataFrame,
    *,
    target: str,
    text: str | Sequence[str] = (),
    image: str | Sequence[str] = (),
    audio: str | Sequence[str] = (),
    drop: str | Sequence[str] = (),
    group: str | Sequence[str] = (),
    folder: Path | None = None,
) -> Columns:
    """Says what each column holds; for those not named, by looking at their cells.

    A column of objects is named for all its keys. folder: what file names in cells are relative to.

    Raises InputError: a misspelt column name (the nearest is suggested), a column named for two purposes, a target
    that is no class (numbers to predict, several labels a cell, free text), no column left to learn from.
    """
    given = {"target": target, "text": text, "image": image, "audio": audio, "drop": drop, "group": group}
    named = {use: names_in(value) for use, value in given.items()}
    named |= {use: _with_keys(names, frame.columns) for use, names in named.items() if use != "target"}
    purpose: dict[str, str] = {}
    for use, names in named.items():
        for name in names:
            if name not in frame.columns:
                raise InputError(unknown_column(name, frame.columns))
            if purpose.setdefault(name, use) != use:
                raise InputError(
                    f"Column {name!r} is given as {purpose[name]} and as {use}; it can be only one of them."
                )
    check_classes(frame[target])
    kinds = ("text", "image", "audio", "number", "category", "date", "code", "vector", "group")
    found: dict[str, list[str]] = {kind: [] for kind in kinds}
    dropped: dict[str, str] = {}
    levels: dict[str, tuple[str, ...]] = {}
    orders: dict[str, str] = {}
    written: dict[str, Writing] = {}
    none: dict[str, tuple[float, ...]] = {}
    spans: dict[str, tuple[float, ...]] = {}
    parts: dict[str, tuple[int, ...]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in map(str, frame.columns):
        known = find_kind(frame[name], folder) if purpose.get(name, "image") == "image" else None
        if known is None or (name in purpose and known.kind != "vector"):
            if purpose[name] == "drop":
                dropped[name] = "dropped on request"
            elif name != target:
                found[purpose[name]].append(name)
            continue
        if known.kind == "dropped":
            dropped[name] = known.why
            continue
        found[known.kind].append(name)
        if known.writing is not None:
            written[name] = known.writing
        if known.none:
            none[name] = known.none
        if known.span:
            spans[name] = known.span
        if known.kind == "category":
            levels[name] = _levels(cell_texts(frame[name]))
        if known.kind == "date":
            orders[name] = known.order
        if known.kind == "code":
            parts[name] = known.places
            read = read_parts(cell_texts(frame[name]), known.places)
            levels |= zip(code_columns(name, known.places), map(_levels, read))
        if known.kind == "vector":
            shapes[name] = known.shape
    columns: dict[str, Any] = {kind: tuple(names) for kind, names in found.items()}
    if not any(names for kind, names in columns.items() if kind != "group"):
        why = "; ".join(f"{name}: {reason}" for name, reason in list(dropped.items())[:5]) or "there is no other column"
        raise InputError(f"No column is left to learn {target!r} from ({why}).")
    media = columns["image"] + columns["audio"]
    hints = group_hints(frame, target, columns["category"] + columns["number"], media) if not columns["group"] else []
    return Columns(
        target,
        **columns,
        levels=levels,
        orders=orders,
        written=written,
        none=none,
        spans=spans,
        parts=parts,
        shapes=shapes,
        dropped=dropped,
        hints=tuple(hints),
    )


def find_kind(column: pd.Series, folder: Path | None = None) -> Found:
    """What a column holds, by its name and its cells."""
    missing = column.isna()
    if pd.api.types.is_bool_dtype(column.dtype):
        return Found("dropped", "constant") if column.nunique() == 1 else Found("category")
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        if missing.all():
            return Found("dropped", "empty")
        if column.nunique() == 1 and not missing.any():
            return Found("dropped", "constant")
        return Found("date", order="year first")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return _number_kind(column.to_numpy(np.float64), str(column.name))
    texts = column[~missing].astype(str)
    texts = texts[texts.str.strip() != ""]
    if not len(texts):
        return Found("dropped", "empty")
    distinct = texts.nunique()
    if distinct == 1:
        said = f"constant ({texts.iloc[0][:40]!r} in every row)"
        return Found("dropped", said) if len(texts) == len(column) else Found("category")
    sample = texts if len(texts) <= _SAMPLE else texts.iloc[:: len(texts) // _SAMPLE]
    if (media := _media_kind(sample.tolist(), folder)) is not None:
        return media
    none = words_for_none(sample.tolist())
    typed = [text for text in sample if text not in none]
    if shape := vector_shape(typed):
        return Found("vector", shape=shape)
    filled = texts[~texts.isin(none)]
    leading_zeros = filled.str.strip().str.fullmatch(r"0\d+(-\d{4})?").any()
    if not leading_zeros and look_numeric(texts) > 0.5:
        numbers = read_numbers(column)
        plain = numbers.share >= NUMBERS or (none and read_numbers(filled).share >= NUMBERS)
        if plain and not _are_thousands(texts):
            return _number_kind(numbers.values, str(column.name))
    if order := looks_like_dates(typed):
        return Found("date", order=order)
    if not leading_zeros and (writing := recognise(typed)) is not None:
        values, strays = read_written(filled.tolist(), writing)
        if len(strays) <= (1 - NUMBERS) * len(filled):
            found = _number_kind(values, str(column.name))
            if found.kind == "dropped" and not writing.quantity:
                return found
            return Found("number", writing=writing, none=found.none, span=found.span)
    if leading_zeros and _are_postal(filled):
        writing = Writing(".", zeros=True)  # places near each other have numbers near each other
        return _number_kind(read_written(filled.tolist(), writing)[0], "")._replace(writing=writing)
    if why := _identifier(sample.tolist(), distinct / len(texts)):
        places = repeating_parts(sample.tolist()) if why == _CODES else ()
        return Found("code", places=places) if places else Found("dropped", why)
    return Found(_text_or_category(sample, distinct, len(texts)))


def unknown_column(name: object, columns: Iterable[object]) -> str:
    """The sentence for a column that is not there, with the nearest name or the names there are."""
    names = [str(column) for column in columns]
    lower = {column.lower().strip(): column for column in names}
    near = difflib.get_close_matches(str(name).lower().strip(), lower, n=1, cutoff=0.5)
    if near:
        return f"There is no column {str(name)!r}. Did you mean {lower[near[0]]!r}?"
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"There is no column {str(name)!r}; the columns are {shown}."


def names_in(value: Any) -> tuple[str, ...]:
    """One name or several, or None for none; those of arrays are numbers. Raises InputError for what is no name."""
    if value is None:
        return ()
    names = (value,) if isinstance(value, str | int | os.PathLike) else value
    if not isinstance(names, Iterable) or not all(isinstance(name, str | Integral | os.PathLike) for name in names):
        raise InputError(f"A name, or a list of names, is needed where {value!r} is given.")
    return tuple(map(str, names))


def _with_keys(names: Iterable[str], columns: Iterable[str]) -> tuple[str, ...]:
    """Names of columns, with all keys in the place of a column of objects (`size.cm` and `size.kg` for `size`)."""
    columns = list(map(str, columns))
    keys = {name: keys_of(name, columns) for name in names if name not in columns}
    return tuple(each for name in names for each in keys.get(name) or [name])


def _levels(cells: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({cell for cell in cells if cell}))


def _number_kind(values: np.ndarray, name: str) -> Found:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Found("dropped", "empty")
    distinct = len(np.unique(finite))
    if distinct == 1 and len(finite) == len(values):
        return Found("dropped", f"constant ({finite[0]:g} in every row)")
    different = len(finite) >= 20 and distinct == len(finite) and not np.any(finite % 1)
    if different and finite.max() - finite.min() + 1 <= 1.1 * len(finite):
        return Found("dropped", "identifier (it numbers the rows)")
    if different and _ID_NAME.search(name):
        return Found("dropped", "identifier (every value is another whole number)")
    if order := count_as_dates(finite):
        return Found("date", order=order)
    if different and _drawn_like_codes(finite):
        return Found("dropped", "identifier (every value is another whole number)")
    none = numbers_for_none(finite)
    others = finite[~np.isin(finite, none)]
    return Found("number", none=none, span=(float(others.min()), float(others.max())))


def _are_thousands(texts: pd.Series) -> bool:
    """Whether the point groups thousands, as in 1.768.274 beside 2.359."""
    dotted = texts[texts.str.contains(".", regex=False)].str.strip()
    grouped = dotted.str.fullmatch(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
    return bool(len(dotted) and grouped.all() and (dotted.str.count(r"\.") > 1).any())


def _drawn_like_codes(values: np.ndarray) -> bool:
    """Whether whole numbers have one length, of six digits or more, and are spread evenly or in the order of the rows;
    quantities, such as prices, crowd somewhere and many are round."""
    digits = np.unique(np.floor(np.log10(np.maximum(np.abs(values), 1))))
    if len(digits) > 1 or digits[0] < 5:
        return False
    if (values % 10 == 0).mean() > 0.5:
        return False
    even = stats.kstest(values, stats.uniform(values.min(), np.ptp(values)).cdf).pvalue > 0.01
    return bool(even or (np.diff(values) > 0).all())


def _are_postal(texts: pd.Series) -> bool:
    """Whether nearly all are whole numbers of as many digits (84624-1234 is one of five), some of them more than once,
    as those that count rows are not, and not so few that each is a category."""
    digits = texts.str.strip().str.extract(r"^(\d+)(?:-\d{4})?$", expand=False).str.len()
    return FEW_CODES < texts.nunique() < len(texts) and digits.value_counts().max() >= NUMBERS * len(texts)


def _media_kind(sample: list[str], folder: Path | None) -> Found | None:
    sorts: tuple[tuple[Kind, tuple[str, ...]], ...] = (("image", IMAGES), ("audio", SOUNDS))
    for kind, suffixes in sorts:
        named = [text for text in sample if text.strip().lower().endswith(suffixes + UNREADABLE)]
        if len(named) < 0.9 * len(sample) or any(len(text) > 1_000 for text in named):
            continue
        readable = [text for text in named if text.strip().lower().endswith(suffixes)]
        if not readable:
            continue
        if any(is_file(find_file(text, folder)) for text in named):
            return Found(kind)
        where = (folder or Path()).resolve().name or folder
        return Found("dropped", f"it names {kind} files, but none such as {readable[0].strip()[:60]!r} is in {where}")
    unreadable = Counter(suffix for text in sample if (suffix := Path(text.strip().lower()).suffix) in UNREADABLE)
    if unreadable.total() >= 0.9 * len(sample):
        return Found("dropped", f"its files {listing(unreadable)} cannot be read; {CONVERT}")
    return None


def _identifier(sample: list[str], share_distinct: float) -> str:
    """Why the values identify rows, or ""."""
    if len(sample) < 20 or share_distinct < 0.95:
        return ""
    if all(_UUID.match(text) for text in sample):
        return "identifier (UUIDs)"
    if all(_HEX.match(text) for text in sample) and any(re.search(r"\d", text) for text in sample):
        return "identifier (hexadecimal codes)"
    lengths = [len(text) for text in sample]
    codes = [text for text in sample if text.isascii() and re.search(r"\d", text) and not re.search(r"\s|@|://", text)]
    if len(codes) >= 0.95 * len(sample) and max(lengths) <= 40 and max(lengths) - min(lengths) <= 4:
        return _CODES
    return ""


def count_words(text: str) -> int:
    """Words between blanks; two characters of a script without blanks are about one."""
    return len(text.split()) + (0 if text.isascii() else len(UNSPACED.findall(text)) // 2)


def _are_lists(values: list[str]) -> bool:
    """Whether the values combine a few entries, such as "drama|war", which say more than the combination."""
    lists = [[part.strip(" []'\"") for part in re.split(r"[|;,]", value)] for value in values]
    entries = {entry for parts in lists for entry in parts}
    return sum(map(len, lists)) >= 1.5 * len(lists) and len(entries) <= len(values) / 2


def _text_or_category(sample: pd.Series, distinct: int, filled: int) -> Kind:
    if _are_lists(sample.drop_duplicates().tolist()):
        return "text"  # of words
    words = sample.map(count_words).mean()
    rows_per_value = filled / distinct
    if words > 3:
        return "category" if distinct <= 30 and rows_per_value >= 10 else "text"
    if rows_per_value >= 2 or (filled < 50 and words < 2 and distinct <= 0.8 * filled):
        return "category"
    return "text"
