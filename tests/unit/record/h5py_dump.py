"""Prints what h5py reads in HDF5 files, as JSON by file: the reader that researchers use, against ours."""
import json
import sys

import h5py
import numpy


def plain(value):
    """Numbers exactly: integers as they are, floating point as hexadecimal text (JSON has no NaN)."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, numpy.integer):
        return int(value)
    if isinstance(value, (float, numpy.floating)):
        return float(value).hex()
    if isinstance(value, numpy.void):
        return {name: plain(value[name]) for name in value.dtype.names}
    raise TypeError(f"unexpected {type(value)}")


def dump(path):
    found = {"attributes": {}, "datasets": {}}
    with h5py.File(path, "r") as file:
        found["attributes"] = {name: plain(value) for name, value in file.attrs.items()}

        def visit(name, item):
            if isinstance(item, h5py.Dataset):
                data = item[()]
                flat = [data] if item.shape == () else list(data.reshape(-1))
                found["datasets"]["/" + name] = {
                    "dtype": str(item.dtype), "shape": list(item.shape), "values": [plain(v) for v in flat]}

        file.visititems(visit)
    return found


print(json.dumps({path: dump(path) for path in sys.argv[1:]}))
