"""Photographs in PostgreSQL with pgvector: python pgvector_search.py URL FOLDER "a dog on a beach" postgresql://…"""

import base64
import sys
from pathlib import Path

import psycopg
from openai import OpenAI
from pgvector import Vector
from pgvector.psycopg import register_vector

url, folder, query, database = sys.argv[1:5]
client = OpenAI(base_url=f"{url}/v1", api_key="none")


def embed(items: list) -> list[Vector]:
    return [Vector(one.embedding) for one in client.embeddings.create(model="fg-clip", input=items).data]


with psycopg.connect(database, autocommit=True) as connection:
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    register_vector(connection)
    paths = sorted(Path(folder).glob("*.png"))
    vectors = embed([{"image": base64.b64encode(path.read_bytes()).decode()} for path in paths])
    connection.execute(f"CREATE TEMP TABLE photos (file text, embedding vector({len(vectors[0].to_list())}))")
    for path, vector in zip(paths, vectors, strict=True):
        connection.execute("INSERT INTO photos VALUES (%s, %s)", (path.name, vector))
    sql = "SELECT 1 - (embedding <=> %s), file FROM photos ORDER BY embedding <=> %s LIMIT 3"
    for score, file in connection.execute(sql, [embed([query])[0]] * 2):
        print(f"{score:.3f}  {file}")
