"""What a model can do: k completions per problem, judged, with intervals."""
