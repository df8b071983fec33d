"""Writes the Parquet files of this folder: pip install pyarrow, then python make.py"""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
texts = ["the cat sat on the mat", "the dog", "a cat and a dog sat", "é日🦀"]
chats = [[{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}] for text in texts]
tables = {
    "plain": ({"text": texts, "label": [0, 1, 2, None]}, {"compression": "none"}),
    "snappy": ({"prompt": texts, "completion": texts[::-1]}, {"compression": "snappy", "row_group_size": 2}),
    "zstd": ({"messages": chats}, {"compression": "zstd"}),
    "gzip": (
        {
            "input_ids": [[1, 2, 3], [4], [5, 6], [7, 8]],
            "when": [datetime.datetime(2020, 1, 1), None, datetime.datetime(1970, 1, 1), datetime.datetime(2262, 1, 1)],
            "score": pa.array([0.5, float("nan"), None, 1e300]),
        },
        {"compression": "gzip", "data_page_version": "2.0", "use_dictionary": False},
    ),
}
for name, (columns, options) in tables.items():
    pq.write_table(pa.table(columns), HERE / f"{name}.parquet", **options)
