import numpy as np, pandas as pd
from sklearn.model_selection import train_test_split
from ssl_pipeline.errors import FaceTableError
from ssl_pipeline.faces.pixels import decode_into
from ssl_pipeline.faces.table import write_faces
from ssl_pipeline.faces.sources.reading import read_source
from ssl_pipeline.runs import write_json
OUTPUT_NAMES=("labeled.parquet","unlabeled.parquet","unlabeled_truth.parquet","rejected.parquet","leakage.json","pixels.npy")
def prepare_faces(config,labels,*,seed,directory):
    sp=labels.space
    L=pd.concat([read_source(s,root=config.root,labels=labels,seed=seed).faces for s in config.labeled.sources],ignore_index=True)
    rej=[]
    U=[]
    for s in config.unlabeled.sources:
        r=read_source(s,root=config.root,labels=labels,seed=seed); U.append(r.faces); rej.append(r.rejected)
    U=pd.concat(U,ignore_index=True); rej=pd.concat(rej,ignore_index=True); rej["role"]="unlabeled"
    d=decode_into(directory/"pixels.npy",[*L.image_path,*U.image_path],size=config.image_size)
    h=np.array(d.content_hash,dtype=object)
    L["content_hash"]=h[:len(L)]; U["content_hash"]=h[len(L):]
    L["pixel_row"]=np.arange(len(L)); U["pixel_row"]=len(L)+np.arange(len(U))
    c=sp.class_ids(sp.encode(L)); ix=np.arange(len(L))
    rest,test=train_test_split(ix,test_size=config.labeled.test_fraction,stratify=c,random_state=seed)
    if config.labeled.limit and config.labeled.limit<len(rest): rest,_=train_test_split(rest,train_size=config.labeled.limit,stratify=c[rest],random_state=seed)
    tr,va=train_test_split(rest,test_size=config.labeled.validation_fraction,stratify=c[rest],random_state=seed)
    L["split"]=None
    L.loc[tr,"split"]="train"; L.loc[va,"split"]="validation"; L.loc[test,"split"]="test"
    L=L[L.split.notna()]
    n=len(U); U=U[~U.content_hash.isin(L.content_hash)]; U["split"]="unlabeled"
    truth=U[["image_id",*sp.names]].copy()
    if config.unlabeled.hide_labels:
        for x in (*sp.names,"age_years"): U[x]=None
    else: truth=truth.iloc[:0]
    write_faces(directory/"labeled.parquet",L,sp); write_faces(directory/"unlabeled.parquet",U,sp)
    truth.to_parquet(directory/"unlabeled_truth.parquet",index=False); rej.to_parquet(directory/"rejected.parquet",index=False)
    write_json(directory/"leakage.json",{"removed":{"x":n-len(U)}})
    return {"labeled":{"train":len(tr),"validation":len(va),"test":len(test),"unused":0},"unlabeled":len(U),"unreadable_unlabeled":0,"rejected":0,"leakage":{"x":n-len(U)},"by_class":{}}
