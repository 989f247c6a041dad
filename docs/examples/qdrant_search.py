"""Photographs in Qdrant, here in this process: python qdrant_search.py URL FOLDER "a dog on a beach"."""

import base64
import sys
from pathlib import Path

from openai import OpenAI
from qdrant_client import QdrantClient, models

url, folder, query = sys.argv[1:4]
client, database = OpenAI(base_url=f"{url}/v1", api_key="none"), QdrantClient(path="photos.qdrant")


def embed(items: list) -> list[list[float]]:
    return [one.embedding for one in client.embeddings.create(model="fg-clip", input=items).data]


paths = sorted(Path(folder).glob("*.png"))
vectors = embed([{"image": base64.b64encode(path.read_bytes()).decode()} for path in paths])
size = models.VectorParams(size=len(vectors[0]), distance=models.Distance.COSINE)
database.create_collection("photos", vectors_config=size)
rows = enumerate(zip(paths, vectors, strict=True))
points = [models.PointStruct(id=n, vector=v, payload={"file": p.name}) for n, (p, v) in rows]
database.upsert("photos", points)
for hit in database.query_points("photos", query=embed([query])[0], limit=3).points:
    print(f"{hit.score:.3f}  {hit.payload['file']}")
