"""check_data.py PAIRS_H5 DATA_H5 PACKED_PAIRS_H5: analysis/meddiff_data.py by what h5py says of the stores.
Exit code 77, with the reason, where a package is missing."""
import sys
import warnings

sys.path.insert(0, "analysis")
try:
    import h5py
    import numpy as np

    import meddiff_data as md
except ImportError as missing:
    print(f"skipped: {missing}; apt-get install python3-h5py")
    sys.exit(77)


class Truth:
    """Accepted pairs and the training part of the data set, by h5py alone."""

    def __init__(self, pairs, data):
        with h5py.File(pairs, "r") as f:
            ok = f["state"][:] == 2
            assert ok.any() and not ok.all(), "the store is to hold accepted and other slots"
            self.rows = [np.flatnonzero(ok)]
            self.images, self.masks = [f["images"][:][ok]], [f["masks"][:][ok] > 0]
            self.alignment = f["alignment"][:][ok]
        with h5py.File(data, "r") as f:
            train = f["split"][:] == 0
            self.rows.append(np.flatnonzero(train))
            self.images.append(f["images"][:][train])
            self.masks.append(f["masks"][:][train] > 0)
            self.lesions = int((train & (f["kind"][:] == 0)).sum())
        self.n, self.m = (len(r) for r in self.rows)

    def of(self, store, row):
        at = np.searchsorted(self.rows[store], row)
        return self.images[store][at], self.masks[store][at]


def fails(text, call):
    try:
        call()
    except (md.StoreError, ValueError) as e:
        assert text in str(e), f"{e!r} without {text!r}"
        return
    raise AssertionError(f"no failure with {text!r}")


def check_functions(truth, pairs, data, packed):
    for path in (pairs, packed):
        x, y = md.read(path)
        assert (x == truth.images[0]).all() and (y == truth.masks[0]).all()
        assert np.array_equal(md.columns(path)["alignment"], truth.alignment, equal_nan=True)
    assert (md.columns(pairs)["row"] == truth.rows[0]).all()
    assert (md.columns(packed)["slot"] == truth.rows[0]).all()
    assert len(md.rows(data, "train")) == truth.m > truth.lesions
    assert len(md.rows(data, "train", lesion=True)) == truth.lesions
    fails("no split is called 'tran'", lambda: md.rows(data, "tran"))


def check_weights(truth, pairs, data):
    both, n, m = md.Pairs(pairs, (data, "train")), truth.n, truth.m
    assert len(both) == n + m
    w = both.weights(0.7, 0.3)
    assert np.isclose(w[:n].sum(), 0.7) and np.isclose(w.sum(), 1) and np.allclose(w[:n], 0.7 / n)
    assert np.allclose(both.weights(), 1 / (n + m))
    two = np.zeros(n + m)
    two[[0, n]] = 1, 5
    w = both.weights(1, 3, each=two)
    assert np.isclose(w[0], 0.25) and np.isclose(w[n], 0.75) and np.count_nonzero(w) == 2
    assert np.allclose(both.weights(each=two)[[0, n]], [1 / 6, 5 / 6])
    fails("2 stores", lambda: both.weights(1))
    fails("a share of", lambda: both.weights(1, -1))
    fails("no sample", lambda: both.weights(0, 0))
    assert len(md.Pairs((data, "train", {"lesion": True}))) == truth.lesions


def epoch(truth, loader):
    """The rows that came, each as it is stored."""
    import torch
    seen = []
    for x, y, (store, row) in loader:
        assert x.dtype == y.dtype == torch.float32
        for image, mask, k, r in zip(x, y, store.tolist(), row.tolist()):
            want, want_mask = truth.of(k, r)
            assert (np.rint(image.numpy().transpose(1, 2, 0) * 255) == want).all(), f"store {k}, row {r}"
            assert (mask.numpy()[0] == want_mask).all(), f"store {k}, row {r}"
            seen.append((k, r))
    return seen


def check_dataset(truth, pairs, data, packed):
    import torch
    from torch.utils.data import DataLoader
    torch.manual_seed(3)
    both = md.Pairs(pairs, (data, "train"), origin=True)
    everything = sorted(both.index)
    _ = both[0], both[truth.n]  # files that are open before the workers begin
    for how in ({}, {"multiprocessing_context": "spawn", "persistent_workers": True}):
        loader = DataLoader(both, 3, shuffle=True, num_workers=4, **how)
        epochs = [epoch(truth, loader), epoch(truth, loader)]
        assert all(sorted(e) == everything for e in epochs), "an epoch is not every sample once"
        assert epochs[0] != epochs[1], "not shuffled"
    copy = md.Pairs(packed)
    assert all(torch.equal(copy[i][0], both[i][0]) for i in range(truth.n))
    drawn = epoch(truth, DataLoader(both, 16, num_workers=2, sampler=both.sampler(0.8, 0.2, n=4000)))
    share = sum(k == 0 for k, _ in drawn) / len(drawn)
    assert abs(share - 0.8) < 0.03, share
    flip = md.Pairs(pairs, transform=lambda x, y: (x[:, ::-1], y[:, ::-1]))
    assert torch.equal(flip[0][0], both[0][0].flip(2)) and torch.equal(flip[0][1], both[0][1].flip(2))
    print(f"check_data: {truth.n} pairs and {truth.m} real ones, {share:.3f} of the draws synthetic: all well")


def main():
    warnings.filterwarnings("ignore", "This DataLoader will create")
    pairs, data, packed = sys.argv[1:4]
    truth = Truth(pairs, data)
    check_functions(truth, pairs, data, packed)
    check_weights(truth, pairs, data)
    try:
        import torch  # noqa: F401
    except ImportError as missing:
        print(f"skipped: the Dataset: {missing}; apt-get install python3-torch")
        sys.exit(77)
    check_dataset(truth, pairs, data, packed)


if __name__ == "__main__":
    main()
