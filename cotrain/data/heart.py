"""Heart disease: 13 measurements of patients and whether they have the disease.

Origin: https://github.com/ChaejeongLee/CoDi, tabular_datasets/heart.csv, a widely copied form of the UCI Heart Disease
set. Licence: none stated in the copy; UCI: CC BY 4.0.
"""

import pandas as pd

from cotrain.data.store import open_file, resolve

_COMMIT = "8da2af242e7c43cba86b9ff5a86d05d3411b4ed5"


def load(distinct: bool = True) -> pd.DataFrame:
    """300 rows: age, sex, cp, trestbps, chol, fbs, restecg, thalach, exang, oldpeak, slope, ca, thal, target (0 or 1).

    The file repeats its rows, 1,018 in all; with `distinct` each is given once, so that none is in training and test.
    """
    path = resolve(
        "heart",
        "heart.csv",
        f"https://raw.githubusercontent.com/ChaejeongLee/CoDi/{_COMMIT}/tabular_datasets/heart.csv",
        "25849352e146fac8a0f24d7eaf45138b19f3f8330658b92d64e49e0b89b7e3f5",
    )
    with open_file(path) as file:
        table = pd.read_csv(file)
    return table.drop_duplicates(ignore_index=True) if distinct else table
