"""The user's own network: `factory` runs the function that they name, `isolation` keeps its imports apart from ours."""
