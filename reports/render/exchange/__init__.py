"""A run for other programs: `rows` are its tables, `parquet_tables` writes them as Parquet, `tracking` is what an
experiment tracker keeps of it, `model_card` the document of the Coalition for Health AI.
"""
