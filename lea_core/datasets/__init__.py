"""Raw data -> (interactions, items): one file per dataset."""
