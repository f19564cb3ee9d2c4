"""A model that was made and logged without any thought of Passerelle: python somebody_elses_model.py log|answer …"""

import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def main(verb: str, tracking: str, folder: Path) -> None:
    mlflow.set_tracking_uri(tracking)
    inputs = pd.read_csv(folder / "events-1.csv").drop(columns="client")
    numbers = list(inputs.select_dtypes("number").columns)
    inputs[numbers] = inputs[numbers].astype("float64")
    if verb == "answer":
        np.save(folder / "answers.npy", mlflow.sklearn.load_model("models:/credit/1").predict_proba(inputs.head(300)))
        return
    bad = pd.read_csv(folder / "outcomes-1.csv")["bad"]
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    model = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            (words, make_column_selector(dtype_exclude="number")),
        ),
        LogisticRegression(max_iter=1000),
    ).fit(inputs, bad)
    mlflow.set_experiment("somebody-elses")
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(inputs, model.predict(inputs)),
            input_example=inputs.head(20),
            registered_model_name="credit",
            serialization_format="cloudpickle",
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
