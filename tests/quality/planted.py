#!/usr/bin/env python3
"""Pictures planted for the filter. `write` puts them, unjudged (state 1), into copies of a finished run's store;
`meddiff assess` judges each; `read` counts what it said. So the product's own filter is measured, not a likeness.

    planted.py write RUN UNSEEN OUT   RUN: a finished run whose backgrounds are no training images;
                                      UNSEEN: data.h5 of other pictures of the kind -> OUT/1, OUT/2, ...

Planted: near-copies of the pictures the run trained on (JPEG, turned by 2 degrees, mirrored, their lesion set
into a background), noise, and real pictures that the run has never seen. Needs Pillow (python3-pil), too."""
import csv
import io
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../analysis"))
try:
    import h5py
    import numpy as np
    from PIL import Image

    import meddiff_data
except ImportError as missing:
    print(f"skipped: {missing}; apt-get install python3-h5py python3-pil", file=sys.stderr)
    sys.exit(77)

EACH, NOISE, UNSEEN = 25, 20, 200
COPIES = ("jpeg", "turned", "mirrored", "transplanted")
WRITTEN, REJECTED = 1, 3
CRC32C = 0x82F63B78


def crc32c(rows):
    """Of each row of u8 [N,BYTES] -> u32 [N]."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ CRC32C, table >> 1).astype(np.uint32)
    crc = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in rows.T:
        crc = table[(crc ^ column) & 255] ^ crc >> 8
    return ~crc


def jpeg(image, mask, quality=60):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)), mask


def turned(image, mask, degrees=2.0):
    """About the middle; what comes into view is the mirrored edge."""
    h, w = mask.shape
    border = max(8, h // 8)
    wide = Image.fromarray(np.pad(image, ((border, border), (border, border), (0, 0)), "reflect"))
    here = (border, border, border + w, border + h)
    truth = Image.fromarray(np.pad(mask, border).astype(np.uint8) * 255)
    return (np.asarray(wide.rotate(degrees, Image.BILINEAR).crop(here)),
            np.asarray(truth.rotate(degrees, Image.BILINEAR).crop(here)) >= 128)


def mirrored(image, mask):
    return image[:, ::-1], mask[:, ::-1]


def transplanted(image, mask, ground):
    return np.where(mask[..., None], image, ground), mask


def noise(image, mask, rng):
    return rng.integers(0, 256, image.shape, np.uint8), mask


def planted(run, unseen):
    """Yields (kind, image [H,W,3], mask [H,W], background_id or None)."""
    rng = np.random.default_rng(1)
    images, masks = meddiff_data.read(os.path.join(run, "data.h5"), "train", True, used_only=True)
    grounds, _ = meddiff_data.read(os.path.join(run, "backgrounds.h5"))
    for i in range(EACH):
        image, mask = images[i % len(images)], masks[i % len(images)]
        yield ("jpeg", *jpeg(image, mask), None)
        yield ("turned", *turned(image, mask, 2.0 if i % 2 else -2.0), None)
        yield ("mirrored", *mirrored(image, mask), None)
        ground = int(rng.integers(len(grounds)))
        yield ("transplanted", *transplanted(image, mask, grounds[ground]), ground)
    for i in range(NOISE):
        yield ("noise", *noise(images[0], masks[i % len(masks)], rng), None)
    images, masks = meddiff_data.read(unseen, lesion=True)
    for i in range(UNSEEN):
        yield "unseen", images[i], masks[i], None


def write(run, unseen, out):
    """The stores, each with as many slots as the run's; slots left over are marked as failed."""
    names = ("state", "images", "masks", "guides", "crc", "background_id", "alignment", "attempt")
    store, slot, listed = None, 0, []

    def finish():
        for name, values in columns.items():
            store[name][...] = values
        store["crc"][...] = crc32c(np.concatenate(
            [columns[name].reshape(slots, -1) for name in ("images", "masks", "guides")], 1))
        store.close()

    for kind, image, mask, ground in planted(run, unseen):
        if store is None or slot == slots:
            if store is not None:
                finish()
            folder = os.path.join(out, str(len(os.listdir(out)) + 1 if os.path.isdir(out) else 1))
            os.makedirs(folder)
            for file in ("data.h5", "backgrounds.h5", "pairs.h5"):
                shutil.copyfile(os.path.join(run, file), os.path.join(folder, file))
            store = h5py.File(os.path.join(folder, "pairs.h5"), "r+")
            columns = {name: store[name][:] for name in names if name != "crc"}
            slots, slot = len(columns["state"]), 0
            columns["state"][:], columns["alignment"][:], columns["attempt"][:] = 4, np.nan, 0
        columns["state"][slot] = WRITTEN
        columns["images"][slot] = image
        columns["masks"][slot] = columns["guides"][slot] = mask
        if ground is not None:
            columns["background_id"][slot] = ground
        listed.append((os.path.basename(folder), slot, kind))
        slot += 1
    finish()
    with open(os.path.join(out, "planted.csv"), "w", newline="") as f:
        csv.writer(f).writerows(listed)
    return len(listed)


def read(out):
    """{kind: [rejected? for each]} and the reasons of the real ones that were rejected."""
    with open(os.path.join(out, "planted.csv"), newline="") as f:
        listed = [(os.path.join(out, name), int(slot), kind) for name, slot, kind in csv.reader(f)]
    states, reasons, rejected, why = {}, {}, {}, []
    for folder in sorted({folder for folder, _, _ in listed}):
        with h5py.File(os.path.join(folder, "pairs.h5"), "r") as f:
            states[folder], reasons[folder] = f["state"][:], f["reason"][:]
    for folder, slot, kind in listed:
        state = states[folder][slot]
        if state not in (meddiff_data.ACCEPTED, REJECTED):
            raise meddiff_data.StoreError(f"{folder}: slot {slot} is in state {state}, so nobody judged it")
        rejected.setdefault(kind, []).append(state == REJECTED)
        if kind == "unseen" and state == REJECTED:
            why.append(reasons[folder][slot].decode())
    return rejected, why


if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[1] != "write":
        sys.exit(__doc__)
    print(write(*sys.argv[2:]), "pictures planted in", sys.argv[4])
