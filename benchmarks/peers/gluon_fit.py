"""AutoGluon on one table, run by the interpreter of an environment of its own, which knows nothing of this package.

    PYTHON gluon_fit.py FOLDER SECONDS PRESETS METRIC

FOLDER holds train.csv and test.csv (column "label" in the first alone); said.json, the predictions in the order of
test.csv, is written there.
"""

import json
import sys
from pathlib import Path

import pandas as pd
from autogluon.tabular import TabularPredictor


def main() -> None:
    folder, seconds, presets, metric = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]
    train = pd.read_csv(folder / "train.csv", dtype={"label": str})
    test = pd.read_csv(folder / "test.csv")
    kind = "binary" if train["label"].nunique() == 2 else "multiclass"  # numbers as names are no regression
    predictor = TabularPredictor("label", kind, metric, path=str(folder / "models"), verbosity=0)
    predictor.fit(train, time_limit=seconds, presets=presets, num_cpus=1, num_gpus=0)
    said = predictor.predict(test)
    (folder / "said.json").write_text(json.dumps([str(each) for each in said]))


if __name__ == "__main__":
    main()
