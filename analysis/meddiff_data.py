"""Reads the stores of meddiff from Python. h5py and numpy are enough for the functions:

    images, masks = read("runs/mine/pairs.h5")               # the accepted pairs
    images, masks = read("runs/mine/data.h5", split="train")  # the imported ones
    alignment = columns("runs/mine/pairs.h5")["alignment"]    # where they come from, what they scored

With PyTorch, Pairs is a Dataset over one or several stores that opens each file once per worker, so that a
DataLoader with num_workers > 0 is safe, and mixes them:

    data = Pairs("runs/mine/pairs.h5", ("runs/mine/data.h5", "train"))
    loader = DataLoader(data, 8, num_workers=4, sampler=data.sampler(0.2, 0.8))  # 20 % synthetic

Compact copies (meddiff export, export.format = hdf5) are read as the stores are."""
import os

import h5py
import numpy as np

SPLITS = {"train": 0, "val": 1, "test": 2}
LESION, ACCEPTED = 0, 2  # data.h5 /kind, pairs.h5 /state
PIXELS = ("images", "masks", "guides", "allowed")


class StoreError(Exception):
    """The file is not what was asked for; the message says what it is."""


def opened(path):
    """The store, for reading."""
    try:
        return h5py.File(path, "r")
    except OSError as e:
        if os.path.isdir(path):
            raise StoreError(f"{path}: a folder; its store is {os.path.join(path, 'pairs.h5')} or data.h5") from e
        if not os.path.exists(path):
            raise StoreError(f"{path}: no such file; a run leaves data.h5 and pairs.h5 in its directory") from e
        raise StoreError(f"{path}: cannot be read as HDF5 ({e}); is it a store of meddiff, and whole?") from e


def rows(path, split=None, lesion=None, used_only=False):
    """The rows of a store that count, ascending. pairs.h5: the accepted slots, whatever the other arguments
    say. data.h5: those of `split` (None: all), with a lesion or without one (None: both); used_only: only
    those that data.pairs left to train on. backgrounds.h5: those of `split`."""
    with opened(path) as f:
        schema = f.attrs.get("schema", "")
        schema = schema.decode() if isinstance(schema, bytes) else schema
        if split is not None and split not in SPLITS:
            raise StoreError(f"{path}: no split is called {split!r}; there are {', '.join(SPLITS)}")
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
    with opened(path) as f:
        images = f["images"][:][ids]
        masks = f["masks"][:][ids] > 0 if "masks" in f else np.zeros(images.shape[:3], bool)
    return images, masks


def columns(path, split=None, lesion=None, used_only=False):
    """Everything but the pixels of those rows: name -> array [N], and "row", their numbers in the file."""
    ids = rows(path, split, lesion, used_only)
    with opened(path) as f:
        found = {name: f[name][:][ids] for name in f if name not in PIXELS}
    return {"row": ids, **found}


class Pairs:
    """A map-style Dataset of (image f32 [3,H,W] in 0..1, mask f32 [1,H,W]) over stores. A store is a path, or
    (path, split), or (path, split, {other arguments of rows}): pictures of data.h5 without a lesion come
    with an empty mask, and are left out by ("data.h5", "train", {"lesion": True}).
    transform(image u8 [H,W,3], mask bool [H,W]) -> the same runs first. origin: a third member of each
    sample, (number of the store, row)."""

    def __init__(self, *stores, transform=None, origin=False):
        self.index, self.paths, self.transform, self.origin = [], [], transform, origin
        self.files, self.counts = {}, []
        for number, store in enumerate(stores):
            path, split, how = store if isinstance(store, tuple) and len(store) == 3 else \
                (*store, {}) if isinstance(store, tuple) else (store, None, {})
            ids = rows(path, split, **how)
            self.paths.append(os.fspath(path))
            self.counts.append(len(ids))
            self.index += [(number, int(i)) for i in ids]

    def __len__(self):
        return len(self.index)

    def __getstate__(self):  # an open file does not travel to a worker process
        return {**self.__dict__, "files": {}}

    def weights(self, *shares, each=None):
        """f64 [len(self)], summing to 1: how often each sample is to be drawn so that of all draws `shares`,
        one number for each store, come from that store: 0.7, 0.3 means 70 % from the first. Without
        shares every sample is equal. each [len(self)]: weights of the samples within their store."""
        each = np.ones(len(self)) if each is None else np.asarray(each, float)
        shares = shares or [each[self._of(n)].sum() for n in range(len(self.paths))]
        if len(shares) != len(self.paths) or len(each) != len(self):
            raise ValueError(f"{len(self.paths)} stores of {len(self)} samples, but {len(shares)} shares "
                             f"and {len(each)} weights")
        out = np.zeros(len(self))
        for number, share in enumerate(shares):
            mine = self._of(number)
            if share < 0 or each[mine].min(initial=0) < 0 or (share > 0 and not each[mine].sum() > 0):
                raise ValueError(f"{self.paths[number]}: a share of {share} of {self.counts[number]} samples")
            if share > 0:
                out[mine] = share * each[mine] / each[mine].sum()
        if not out.sum() > 0:
            raise ValueError("no sample has a weight")
        return out / out.sum()

    def sampler(self, *shares, each=None, n=None, generator=None):
        """For DataLoader(sampler=...): n draws (None: as many as there are samples) by weights()."""
        import torch
        weights = torch.from_numpy(self.weights(*shares, each=each))
        return torch.utils.data.WeightedRandomSampler(weights, n or len(self), generator=generator)

    def _of(self, number):
        first = sum(self.counts[:number])
        return slice(first, first + self.counts[number])

    def _file(self, number):
        key = (os.getpid(), number)  # an open file does not survive a fork either
        if key not in self.files:
            self.files[key] = opened(self.paths[number])
        return self.files[key]

    def __getitem__(self, i):
        import torch
        number, row = self.index[i]
        f = self._file(number)
        image = f["images"][row]
        mask = f["masks"][row] > 0 if "masks" in f else np.zeros(image.shape[:2], bool)
        if self.transform:
            image, mask = self.transform(image, mask)
        sample = (torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255),
                  torch.from_numpy(mask[None].astype(np.float32)))
        return (*sample, (number, row)) if self.origin else sample
