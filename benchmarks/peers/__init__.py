"""Two other libraries on our data and split, each in an environment of its own: RecBole and RecTools."""
