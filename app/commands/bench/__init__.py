"""`bench`: how fast is this device, where does the time go, and how far is that from its limits?

``run`` measures one configuration, ``sweep`` several in turn, ``startup`` fresh processes;
``compare`` sets two reports side by side, ``html`` draws one. ``schema.json`` describes them all.
"""
