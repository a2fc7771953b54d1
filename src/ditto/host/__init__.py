"""What every stage needs of the machine: starting and stopping an app, its ports and processes, the machine's facts.

Not a stage: any stage may import it.
"""
