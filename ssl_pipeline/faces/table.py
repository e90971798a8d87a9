from pathlib import Path
import pandas as pd
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.runs import atomic_path
def write_faces(path, faces, labels):
    faces=faces.copy()
    for a in labels.attributes:
        faces[a.name]=pd.Categorical(faces[a.name],categories=list(a.values))
    with atomic_path(path) as b: faces.to_parquet(b,index=False)
def read_faces(path):
    if not path.is_file(): raise FaceTableError(f"{path}: no such face table")
    return pd.read_parquet(path)
