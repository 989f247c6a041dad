"""Photographs in LanceDB, an embedded database: python lancedb_search.py URL FOLDER "a dog on a beach"."""

import base64
import sys
from pathlib import Path

import lancedb
from openai import OpenAI

url, folder, query = sys.argv[1:4]
client = OpenAI(base_url=f"{url}/v1", api_key="none")


def embed(items: list) -> list[list[float]]:
    return [one.embedding for one in client.embeddings.create(model="fg-clip", input=items).data]


paths = sorted(Path(folder).glob("*.png"))
images = [{"image": base64.b64encode(path.read_bytes()).decode()} for path in paths]
rows = [{"file": path.name, "vector": vector} for path, vector in zip(paths, embed(images), strict=True)]
table = lancedb.connect("photos.lance").create_table("photos", rows, mode="overwrite")
for hit in table.search(embed([query])[0]).metric("cosine").limit(3).to_list():
    print(f"{1 - hit['_distance']:.3f}  {hit['file']}")
