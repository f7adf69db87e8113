"""Reads the stores of meddiff from Python. h5py and numpy are enough for the functions:

    images, masks = read("runs/mine/pairs.h5")               # the accepted pairs
    images, masks = read("runs/mine/data.h5", split="train")  # the imported ones

With PyTorch, Pairs is a Dataset over one or several stores
that opens each file once per worker, so that a DataLoader with num_workers > 0 is safe.

    loader = DataLoader(Pairs("runs/mine/pairs.h5", ("runs/mine/data.h5", "train")), 8, shuffle=True)
"""
import h5py
import numpy as np

SPLITS = {"train": 0, "val": 1, "test": 2}
LESION, ACCEPTED = 0, 2  # data.h5 /kind, pairs.h5 /state


class StoreError(Exception):
    """The file is not what was asked for; the message says what it is."""


def rows(path, split=None, lesion=None, used_only=False):
    """The rows of a store that count, ascending. pairs.h5: the accepted slots, whatever the other arguments
    say. data.h5: those of `split` (None: all), with a lesion or without one (None: both); used_only: only
    those that data.pairs left to train on. backgrounds.h5: those of `split`."""
    with h5py.File(path, "r") as f:
        schema = f.attrs.get("schema", "")
        schema = schema.decode() if isinstance(schema, bytes) else schema
        if schema == "meddiff.pairs":
            keep = f["state"][:] == ACCEPTED
        elif schema in ("meddiff.data", "meddiff.backgrounds"):
            keep = np.ones(len(f["images"]), bool) if split is None else f["split"][:] == SPLITS[split]
            if schema == "meddiff.data" and lesion is not None:
                keep &= (f["kind"][:] == LESION) == lesion
            if schema == "meddiff.data" and used_only:
                keep &= f["used"][:] > 0
        else:
            raise StoreError(f"{path}: no store of pictures (schema {schema!r})")
    return np.flatnonzero(keep)


def read(path, split=None, lesion=None, used_only=False):
    """Those rows: images u8 [N,H,W,3], masks bool [N,H,W] (backgrounds have none: empty)."""
    ids = rows(path, split, lesion, used_only)
    with h5py.File(path, "r") as f:
        images = f["images"][:][ids]
        masks = f["masks"][:][ids] > 0 if "masks" in f else np.zeros(images.shape[:3], bool)
    return images, masks


class Pairs:
    """A map-style Dataset of (image f32 [3,H,W] in 0..1, mask f32 [1,H,W]) over stores: paths, or
    (path of data.h5, split). transform(image u8 [H,W,3], mask bool [H,W]) -> the same runs first."""

    def __init__(self, *stores, transform=None):
        self.index, self.paths, self.transform, self.files = [], [], transform, {}
        for number, store in enumerate(stores):
            path, split = (store, None) if isinstance(store, str) else store
            self.paths.append(path)
            self.index += [(number, int(i)) for i in rows(path, split)]

    def __len__(self):
        return len(self.index)

    def __getstate__(self):  # an open file does not travel to a worker process
        return {**self.__dict__, "files": {}}

    def __getitem__(self, i):
        import os
        import torch
        number, row = self.index[i]
        key = (os.getpid(), number)  # nor does it survive a fork
        if key not in self.files:
            self.files[key] = h5py.File(self.paths[number], "r")
        f = self.files[key]
        image, mask = f["images"][row], f["masks"][row] > 0
        if self.transform:
            image, mask = self.transform(image, mask)
        return (torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255),
                torch.from_numpy(mask[None].astype(np.float32)))
