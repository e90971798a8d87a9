import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from ssl_pipeline.faces.decoding import UnreadableFace, decode_rgb, square_pixels
from ssl_pipeline.runs import atomic_path
@dataclass(frozen=True)
class Decoded:
    content_hash: list
    reason: list
def decode_into(path, image_paths, *, size):
    hashes=[None]*len(image_paths); reasons=[None]*len(image_paths)
    with atomic_path(path) as b:
        out=np.lib.format.open_memmap(b,mode="w+",dtype=np.uint8,shape=(len(image_paths),size,size,3))
        def one(i):
            try:
                c=Path(image_paths[i]).read_bytes(); hashes[i]=hashlib.sha256(c).hexdigest()
                out[i]=square_pixels(decode_rgb(c),size=size)
            except (UnreadableFace,OSError) as e: reasons[i]=str(e)
        with ThreadPoolExecutor(4) as ex: list(ex.map(one,range(len(image_paths))))
        out.flush()
    return Decoded(hashes,reasons)
def open_pixels(path): return np.load(path,mmap_mode="r",allow_pickle=False)
